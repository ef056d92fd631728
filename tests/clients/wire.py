"""Clients of the PostgreSQL wire. Arguments: the server's HTTP address, what to do, the port, and more.

use: parameters, types, errors, prepared statements. catalog FOLDER: each file's statement answers. psql: what
psql prints. ends PID: a session that is idle when the process is ended is told so.
"""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal

import psycopg

_, what, port, *more = sys.argv[1:]
TOKEN = os.environ["READER_TOKEN"]


def connected(user="rita", password=TOKEN, **settings):
    return psycopg.connect(host="127.0.0.1", port=port, user=user, password=password, dbname="sluice", connect_timeout=20, **settings)


def refused(statement, cursor, text):
    try:
        cursor.execute(statement)
    except psycopg.Error as error:
        assert text in str(error).lower(), error
        return error
    raise AssertionError(f"answered: {statement}")


def use():
    for user, password in [("rita", "wrong"), ("nobody", TOKEN)]:
        try:
            connected(user, password)
        except psycopg.OperationalError as error:
            assert "authentication" in str(error) or "password" in str(error), error
        else:
            raise AssertionError("let in")
    with connected(autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*), sum(amount) FROM kept")
            rows, total = cursor.fetchone()
            assert (rows, total) == (100, 4950), (rows, total)
            cursor.execute("SELECT id, shop FROM kept WHERE id = %s", (7,))
            assert cursor.fetchone() == (7, "s2"), "a parameter"
            cursor.execute("SELECT id FROM kept WHERE shop = %s ORDER BY id LIMIT 2", ("s1'; DROP TABLE kept; --",))
            assert cursor.fetchall() == [], "a parameter is no SQL"
            cursor.execute("SELECT CAST(1.50 AS DECIMAL(10, 2)), DATE '2026-01-31', TIMESTAMP '2026-01-31 12:00:00', true, NULL, 'é'")
            found = cursor.fetchone()
            assert found[0] == Decimal("1.50") and str(found[1]) == "2026-01-31" and found[3] is True and found[4] is None and found[5] == "é", found
            for _ in range(6):
                # Prepared from the fifth time on.
                cursor.execute("SELECT sum(amount) FROM kept WHERE id <= %s", (10,), prepare=True)
                assert cursor.fetchone()[0] == 55
            refused("INSERT INTO kept VALUES (1)", cursor, "only reads")
            cursor.execute("SELECT count(*) FROM kept WHERE shop = ANY(%s)", (["s1", "s2"],))
            assert cursor.fetchone() == (40,), "a list"
            refused("DROP TABLE kept", cursor, "")
            refused("COPY kept TO '/tmp/x'", cursor, "")
            refused("SELECT * FROM nothing_there", cursor, "not found")
            refused("SELEC 1", cursor, "")
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,), "a session goes on after errors"
    with connected() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM by_shop")
        assert cursor.fetchone() == (5,)
        with connection.cursor(name="many") as many:
            many.itersize = 10
            many.execute("SELECT id FROM kept ORDER BY id")
            assert [row[0] for row in many] == list(range(100))


def catalog(folder):
    files = sorted(pathlib.Path(folder).glob("*.sql"))
    with connected(autocommit=True) as connection, connection.cursor() as cursor:
        for path in files:
            text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("--"))
            names = {":relation": "kept"}
            for number, statement in enumerate(text.split(";\n")):
                if not statement.strip():
                    continue
                for name, value in names.items():
                    statement = statement.replace(name, value)
                try:
                    cursor.execute(statement.strip().rstrip(";").encode())
                    rows = cursor.fetchall() if cursor.description else []
                except psycopg.Error as error:
                    raise SystemExit(f"{path.name}: {error}\n{statement[:800]}") from error
                if number == 0 and ":relation" in text:
                    assert rows, f"{path.name}: nothing is found\n{statement[:800]}"
                if number == 0 and rows:
                    found = {column.name: str(value) for column, value in zip(cursor.description, rows[0])}
                    names |= {f":{name}": found[name] for name in ("oid", "relnamespace") if name in found}
                if path.name == "grafana.sql" and number != 1:
                    assert rows, f"{path.name}: statement {number} gives no row"
                if path.name == "psql_d_plus_table.sql" and number == 2:
                    assert len(rows) == 3, f"{len(rows)} columns"
    print(f"{len(files)} files")


def psql():
    env = dict(os.environ, PGPASSWORD=TOKEN)
    where = ["psql", "-X", "-h", "127.0.0.1", "-p", port, "-U", "rita", "-d", "sluice", "-v", "ON_ERROR_STOP=1"]
    for command, wanted in [("\\dt", "kept"), ("\\d+", "by_shop"), ("\\d kept", "amount"), ("\\l", "sluice"), ("\\dn", "public"),
                            ("SELECT shop, orders FROM by_shop ORDER BY shop", "s4")]:
        done = subprocess.run([*where, "-c", command], env=env, capture_output=True, text=True)
        assert done.returncode == 0 and wanted in done.stdout, f"{command}: {done.stdout}{done.stderr}"


def ends(pid):
    idle, busy = connected(autocommit=True), connected(autocommit=True)
    idle.execute("SELECT 1")
    answer = []
    # Long enough to be under way when the process is ended.
    slow = "SELECT count(*) FROM generate_series(1, 30000) AS a(n), generate_series(1, 30000) AS b(m) WHERE (n + m) % 7 = 0"
    asks = threading.Thread(target=lambda: answer.append(busy.execute(slow).fetchone()[0]))
    asks.start()
    time.sleep(0.3)
    under_way = asks.is_alive()
    os.kill(int(pid), signal.SIGTERM)
    asks.join()
    assert under_way and answer and answer[0] > 1000, f"a question under way: {under_way} {answer}"
    time.sleep(1)
    try:
        idle.execute("SELECT 1")
    except psycopg.Error as error:
        assert error.sqlstate == "57P01", repr(error)
    else:
        raise AssertionError("the session goes on")


{"use": use, "catalog": catalog, "psql": psql, "ends": ends}[what](*more)
