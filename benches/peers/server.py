"""A `sluice serve` of one's own over a fresh lake, and the drivers that load it: wrk flat out, paced.py at a pace."""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from measure import HERE, ROOT, sluice

PROJECT = f"{HERE}/served/sluice.yaml"
# How long a start, and rows on their way into a table, may take.
PATIENCE_S = 120


def cpu(pid):
    """Seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answered(connection, method, path, body, headers):
    if connection.sock is None:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


class Server:
    """The process, and questions to it; each thread asks over a connection of its own."""

    def __init__(self, asked, pack, **settings):
        folder = os.path.join(asked.work, f"serve-{pack}")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.asked, self.port, self.mine = asked, free_port(), threading.local()
        self.settings = {"pack": pack, "lake": f"{folder}/lake"} | settings
        more = ["--http", f"127.0.0.1:{self.port}", "--state", f"{folder}/state", "--log", "warn"]
        self.said = f"{folder}/said"
        command = sluice(asked.sluice, "serve", PROJECT, self.settings, *more)
        with open(self.said, "w") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        atexit.register(self.process.kill)
        self.until("a start", lambda: self.status("/health/startup") == 200)

    def until(self, what, found, every=0.2):
        """What `found` finds; ends the measuring where it finds nothing for too long."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                self.give_up(f"the server ended while {what} was waited for")
            if value := found():
                return value
            time.sleep(every)
        return self.give_up(f"no {what} within {PATIENCE_S} s")

    def give_up(self, why):
        self.process.kill()
        with open(self.said) as said:
            sys.exit(f"{why}\n{said.read()}")

    def request(self, method, path, body=None, headers=None):
        """Status and body of an answer. A kept connection that is over is made again, as every client does."""
        given = {"Content-Type": "application/json"} | (headers or {}) if body else {}
        kept = getattr(self.mine, "connection", None)
        if kept:
            try:
                return answered(kept, method, path, body, given)
            except (OSError, http.client.HTTPException):
                self.mine.connection = None
        fresh = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        found = answered(fresh, method, path, body, given)
        self.mine.connection = fresh
        return found

    def status(self, path):
        """The status of an answer; none where nobody answers yet."""
        try:
            return self.request("GET", path)[0]
        except OSError:
            return None

    def sql(self, query):
        """The rows of a query."""
        status, said = self.request("POST", "/v1/sql", json.dumps({"sql": query}))
        if status != 200:
            self.give_up(f"{status} for {query}: {said.decode()}")
        return json.loads(said)["rows"]

    def shown_rows(self, table):
        """Rows of a table that readers see now."""
        tables = json.loads(self.request("GET", "/v1/tables")[1])["tables"]
        return next((one["rows"] for one in tables if one["name"] == table), None) or 0

    def stop(self):
        """Ends the process in peace, and counts again what it wrote."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(PATIENCE_S) != 0:
            self.give_up("the server did not end well")
        audit = subprocess.run(sluice(self.asked.sluice, "audit", PROJECT, self.settings), cwd=ROOT, capture_output=True)
        if audit.returncode != 0:
            self.give_up(f"audit: {audit.stdout.decode()}{audit.stderr.decode()}")

    def wrk(self, path, connections, seconds, body=None, first=0, count=False):
        """What wrk says of a load as large as it can make, see wrk.lua; with `core` and `server`, the share of
        a core that it and the server used."""
        more = {"BODY": body, "FIRST": str(first), "COUNT": "1" if count else None}
        command = [self.asked.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", f"{HERE}/wrk.lua"]
        environment = os.environ | {name: value for name, value in more.items() if value is not None}
        before, began = cpu(self.process.pid), time.monotonic()
        child = subprocess.Popen([*command, f"http://127.0.0.1:{self.port}{path}"], stdout=subprocess.PIPE, env=environment)
        said = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        taken = time.monotonic() - began
        if status != 0:
            self.give_up(f"wrk failed\n{said}")
        found = json.loads(said.splitlines()[-1])
        if found["broken"]:
            print(f"wrk: {found['broken']} connections broke or waited too long", file=sys.stderr)
        return found | {"core": (usage.ru_utime + usage.ru_stime) / taken, "server": (cpu(self.process.pid) - before) / taken}

    def paced(self, requests, rate, connections, seconds, first=0, warm=0):
        """A load of so many requests a second, begun; `Paced.end` waits for it."""
        asked = {"port": self.port, "requests": requests, "rate": rate, "connections": connections, "seconds": seconds}
        return Paced(self, asked | {"first": first, "warm": warm, "nice": self.asked.nice})


class Paced:
    """paced.py at work."""

    def __init__(self, server, asked):
        self.server, self.before, self.began = server, cpu(server.process.pid), time.monotonic()
        command = [sys.executable, f"{HERE}/paced.py", json.dumps(asked)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def end(self):
        """What it says; with `server`, the share of a core that the server used meanwhile."""
        said = self.process.communicate()[0]
        if self.process.returncode != 0:
            self.server.give_up("paced.py failed")
        taken = time.monotonic() - self.began
        return json.loads(said) | {"server": (cpu(self.server.process.pid) - self.before) / taken}
