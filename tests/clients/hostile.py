"""Somebody who means harm. Arguments: the server's address and what is tried. Each is refused, or what it says is
shown as what it is; and others are served as before."""

import base64
import json
import re
import select
import socket
import sys
import threading
import time
from urllib.parse import quote, urlsplit

from served import ADMIN, OPERATOR, READER, address, call, deliver, expect, fill, get, sql, wait

server = urlsplit(address)
BEARER = f"Authorization: Bearer {READER}"
JSON = "Content-Type: application/json"
EVIL = "<script>alert(1)</script>"


def head(first, *lines):
    return "\r\n".join([first, f"Host: {server.netloc}", *lines, "", ""]).encode()


def connected():
    return socket.create_connection((server.hostname, server.port), timeout=60)


def raw(sent):
    """All that is answered to bytes; nothing where the connection was cut off."""
    said = b""
    with connected() as line:
        try:
            line.sendall(sent)
            while part := line.recv(65536):
                said += part
        except (BrokenPipeError, ConnectionResetError):
            pass
    return said


def status(said):
    return int(said.split(b" ", 2)[1]) if said else None


def unauthenticated():
    fill()
    tried = 0
    for path, methods in get("/v1/openapi.json", token=ADMIN)["paths"].items():
        place = re.sub(r"\{[^}]*\}", "hub", path)
        for method in methods.keys() & {"get", "post", "put", "patch", "delete"}:
            if methods[method].get("security") == []:
                continue
            body = b"{}" if method == "post" else None
            answer = call(place, None, method.upper(), body, Content_Type="application/json")
            expect(401, answer, f"{method} {place}")
            assert "Bearer" in answer[1]["WWW-Authenticate"] and b"s1" not in answer[2], answer
            tried += 1
    assert tried > 20, f"{tried} operations"
    for path in ("/", "/status", "/status/live.js", "/docs/", "/nothing"):
        expect(401, call(path, None), path)
    expect(404, call("/hooks/nothing", None), "a mistyped webhook")
    expect(401, call("/status/jobs/hub/pause", None, "POST", b""), "a button")
    assert get("/v1/jobs/hub")["state"] == "running"


def role():
    fill()
    wait(lambda: get("/v1/jobs/hub")["state"] == "running", "the job")
    acts = [f"/v1/jobs/hub/{act}" for act in ("run", "pause", "resume", "cancel")]
    for path in [*acts, "/status/jobs/hub/pause"]:
        expect(403, call(path, READER, "POST", b""), f"a reader: {path}")
    for token in (READER, OPERATOR):
        expect(403, call("/v1/reload", token, "POST"), "no admin reloads")
        expect(403, call("/v1/activity", token), "no admin reads the log")
    assert get("/v1/jobs/hub")["state"] == "running"
    did = {entry["who"] for entry in get("/v1/activity", token=ADMIN)["entries"]}
    assert not did & {"rita", "olga"}, did


def forged():
    def basic(token):
        return "Basic " + base64.b64encode(f"rita:{token}".encode()).decode()

    tokens = ["x", READER[:-1], READER + "x", READER.upper()]
    values = [f"Bearer {token}" for token in tokens] + [basic(READER[:-1]), basic(""), "Bearer", f"Token {READER}"]
    for value in values:
        expect(401, call("/v1/jobs", None, Authorization=value), value)
    twice = raw(head("GET /v1/jobs HTTP/1.1", BEARER, BEARER, "Connection: close"))
    assert status(twice) == 401, twice[:300]
    # Who goes on guessing is told to wait, and nobody else is.
    answers = [call("/v1/jobs", f"guess-{n}") for n in range(30)]
    found = {answer[0] for answer in answers}
    assert found <= {401, 429} and 429 in found, found
    assert all(int(answer[1]["Retry-After"]) > 0 for answer in answers if answer[0] == 429)
    expect(200, call("/v1/jobs"), "a token that is right")
    expect(401, call(f"/v1/jobs?token={READER}", None), "a token in the address")


def oversized():
    # What is declared is refused before any of it is sent.
    for path, who in (("/v1/sql", BEARER), ("/hooks/orders", "X-Nobody: 1")):
        said = raw(head(f"POST {path} HTTP/1.1", who, JSON, "Content-Length: 9000000", "Connection: close"))
        assert status(said) == 413, f"{path}: {said[:300]}"
    order = b'{"id": 9, "shop": "' + b"x" * 70_000 + b'"}'
    expect(413, call("/hooks/orders", None, "POST", order, Content_Type="application/json"), "a large order")
    long = sql("SELECT " + " + ".join(["1"] * 200_000))
    assert 400 <= long[0] < 500, long[0]
    # It may be cut off while it is sent.
    said = raw(head("GET /health/live HTTP/1.1", "X-Large: " + "x" * 200_000, "Connection: close"))
    assert status(said) in (431, None), said[:300]
    expect(200, call("/health/live", None), "everybody else")


def trickle(first, drop):
    """What is said to who sends this, then drop by drop, until the other side has had enough."""
    with connected() as line:
        line.sendall(first)
        for _ in range(1200):
            if select.select([line], [], [], 0.25)[0]:
                try:
                    return line.recv(65536)
                except ConnectionResetError:
                    return b""
            try:
                line.sendall(drop)
            except (BrokenPipeError, ConnectionResetError):
                return b""
    raise AssertionError("it was listened to for five minutes")


def slow():
    fill()
    posts = [JSON, "Content-Length: 1000"]
    tries = [
        ("a head byte by byte", head("GET /v1/jobs HTTP/1.1")[:-2] + b"X-Slow: ", b"x", (408, None)),
        ("silence", b"", b"", (408, None)),
        ("a delivery byte by byte", head("POST /hooks/orders HTTP/1.1", *posts) + b"{", b" ", (408,)),
        ("a body that stops", head("POST /v1/sql HTTP/1.1", BEARER, *posts) + b"{", b"", (408,)),
    ]
    ended, served = [], 0

    def attempt(name, first, drop, wanted):
        said = trickle(first, drop)
        ended.append((name, status(said) in wanted, said[:300]))

    threads = [threading.Thread(target=attempt, args=one) for one in tries * 5]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        expect(200, call("/v1/views/by_shop"), "everybody else")
        served += 1
        time.sleep(0.1)
    assert served > 20, f"{served} others were served"
    assert len(ended) == len(threads) and all(right for _, right, _ in ended), ended


def rows(statement, **params):
    return json.loads(expect(200, sql(statement, **params))[2])["rows"]


def injected():
    fill()
    for statement in [
        "DROP TABLE kept", "INSERT INTO kept VALUES (1, 'x', 1)", "CREATE TABLE x AS SELECT 1", "COPY kept TO '/tmp/x.csv'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "SET datafusion.execution.batch_size = 1",
        "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_csv('/etc/passwd')", "SELECT 1; DROP TABLE kept", "EXPLAIN DROP TABLE kept",
        "DELETE FROM kept", "UPDATE kept SET id = 1",
    ]:
        expect(400, sql(statement), statement)
    text = "s1' OR '1'='1"
    hostile = quote(text)
    expect(404, call(f"/api/shops/{hostile}", None), "SQL in a path")
    expect(400, call("/api/largest?least=" + quote("0 OR 1=1")), "SQL in a number")
    assert get(f"/v1/tables/kept?shop={hostile}")["rows"] == []
    expect(400, call("/v1/tables/kept?" + quote('id"; DROP TABLE kept; --') + "=1"), "SQL in a name")
    expect(400, call("/v1/tables/kept?order=" + quote("id; DROP TABLE kept")), "SQL in an order")
    expect(404, call("/v1/tables/" + quote('kept"; DROP TABLE kept; --')), "SQL in a table's name")
    assert rows("SELECT id FROM kept WHERE shop = $shop", shop=text) == []
    assert rows("SELECT count(*) AS n FROM kept") == [{"n": 100}], "nothing is gone"


def path():
    """The project has a front end, and files beside it that say `secret`."""
    expect(200, call("/index.html", None), "a page of the front end")
    ways = [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt", "/sub/../../secret.txt", "/sub/..%2f..%2fsecret.txt",
        "/..%5csecret.txt", "/....//secret.txt", "/.%00./secret.txt", "//secret.txt", "/.secret", "/%2esecret", "/out.txt", "/../sluice.yaml",
        "/../state/schedule.json", "/../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/docs/../secret.txt", "/docs/..%2f..%2fsecret.txt",
        "/status/..%2fsecret.txt", "/v1/tables/..%2f..%2fsecret.txt", "/v1/views/%2e%2e%2fsecret", "/v1/jobs/..%2f..%2fsecret", "/hooks/..%2f..%2fsecret.txt",
    ]
    for way in ways:
        answer = call(way, READER)
        assert answer[0] in (400, 404), f"{way}: {answer[0]}"
        assert b"a secret of this machine" not in answer[2] and b"root:" not in answer[2], f"{way}: {answer[2]}"


def header():
    fill()
    # What ends a line in what is asked for ends none in what is answered.
    broken = quote("\r\nX-Evil: 1\r\n\r\n<html>")
    page = expect(200, call(f"/v1/tables/kept?limit=1&order=id&shop.ne={broken}"), "a filter")
    assert page[1]["Link"] and not page[1]["X-Evil"], page[1]
    for place in (f"/api/shops/{broken}", f"/v1/tables/{broken}", f"/{broken}", f"/v1/tables/kept?cursor={broken}"):
        answer = call(place)
        assert answer[0] in (400, 404) and not answer[1]["X-Evil"], f"{place}: {answer[0]} {answer[1]}"
    for given in ("a" * 5000, EVIL, "a b", "é".encode().decode("latin-1")):
        answer = expect(200, call("/v1/jobs", X_Request_Id=given), "an id")
        assert answer[1]["X-Request-Id"] != given, answer[1]
    # Heads that two servers may read in two ways.
    for line in ("X-A: b\0c", "X-A : b", "Content-Length: 1\r\nContent-Length: 2", "Content-Length: -1", "X-A: b\r c"):
        said = raw(head("GET /health/live HTTP/1.1", line, "Connection: close"))
        assert status(said) in (400, None), f"{line!r}: {said[:300]}"
    # A page of somebody else presses no button, and is let in by no name.
    for origin in ("http://evil.example", "null"):
        expect(403, call("/status/jobs/hub/pause", OPERATOR, "POST", b"", Origin=origin), "a form of another site")
        expect(403, call("/v1/jobs/hub/pause", OPERATOR, "POST", b"", Origin=origin), "a script of another site")
        assert not call("/v1/jobs", Origin=origin)[1]["Access-Control-Allow-Origin"]
    assert get("/v1/jobs/hub")["state"] == "running"


def html():
    fill()
    deliver("/hooks/orders", {"id": 2000, "shop": EVIL, "amount": 1})
    wait(lambda: any(row["shop"] == EVIL for row in get("/v1/views/by_shop")["rows"]), "a hostile name")
    for place in ("/", "/status"):
        wait(lambda: b"alert(1)" in expect(200, call(place))[2], "the name on the page")
        answer = call(place)
        page = answer[2].decode()
        assert EVIL not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page, page
        assert "script-src 'self'" in answer[1]["Content-Security-Policy"], answer[1]
    # Where it is data and no page it is not taken for one.
    for place, wanted in ((f"/api/shops/{quote(EVIL, safe='')}", 200), (f"/v1/tables/{quote(EVIL, safe='')}", 404)):
        answer = expect(wanted, call(place), place)
        kind = answer[1]["Content-Type"]
        assert "json" in kind and answer[1]["X-Content-Type-Options"] == "nosniff", answer[1]


cases = [unauthenticated, role, forged, oversized, slow, injected, path, header, html]
{case.__name__: case for case in cases}[sys.argv[2]]()
