"""A server that was started while a broker, a bucket and a model were away. Arguments: its address and what to do.

away: everything else is answered, and what is missing is named. back PORT: the model is at this port, the others
are back too; all of it is used without anybody doing anything, and what was taken in meanwhile is in its place.
lost: the broker is away again; its circuit opens. found: it is back, its circuit closes, and what came meanwhile is taken.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from served import OPERATOR, call, deliver, expect, get, sql, wait

# A store is asked for a minute before it is called away, a broker half as long.
SECONDS_MAX = 400
MISSING = {"the bucket": "of job far", "the broker": "source:lines of job stream", "the model": "endpoint:chat"}


class Model(BaseHTTPRequestHandler):
    """A model that always says the same."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say({"choices": [{"message": {"role": "assistant", "content": "yes"}}]})

    def do_GET(self):
        self.say({"data": []})

    def say(self, what):
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ready():
    return json.loads(call("/health/ready", None)[2])


def named():
    about = [reason["about"] for reason in ready()["reasons"]]
    return {what for what, name in MISSING.items() if any(one.endswith(name) for one in about)}


def ask():
    body = json.dumps({"message": "is anybody there?"}).encode()
    return call("/api/chat", None, "POST", body, Content_Type="application/json")


def count(table):
    answer = sql(f"SELECT count(*) AS n FROM {table}")
    return json.loads(answer[2])["rows"][0]["n"] if answer[0] == 200 else None


def circuit():
    """1 while the broker is left alone, 0 once it is not any more; none before."""
    text = expect(200, call("/metrics", None), "the figures")[2].decode()
    told = [line for line in text.splitlines() if line.startswith("sluice_circuit_open{")]
    told = [line for line in told if 'job="stream"' in line and 'dependency="source:lines"' in line]
    return float(told[0].rsplit(" ", 1)[1]) if told else None


def away():
    expect(200, call("/health/live", None), "it lives")
    expect(200, call("/health/startup", None), "it has started")
    assert ask()[0] in (502, 503), "nobody answers in the model's place"
    # Both are acknowledged: their logs are here.
    for path in ("/hooks/near", "/hooks/far"):
        deliver(path, {"id": 1})
    assert {job["job"] for job in get("/v1/jobs")["jobs"]} == {"near", "far", "stream"}
    expect(200, call("/", OPERATOR), "the page")
    expect(200, call("/metrics", None), "the figures")
    wait(lambda: count("near_rows") == 1, "a row of the job whose lake is there", SECONDS_MAX)
    expect(503, sql("SELECT count(*) FROM far_rows"), "rows of a lake that is away")
    wait(lambda: named() == MISSING.keys(), f"the names of all of {list(MISSING)}", SECONDS_MAX)
    deliver("/hooks/near", {"id": 2})
    wait(lambda: count("near_rows") == 2, "another row", SECONDS_MAX)


def back(port):
    model = ThreadingHTTPServer(("127.0.0.1", int(port)), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    wait(lambda: ask()[0] == 200, "the model", SECONDS_MAX)
    for table in ("far_rows", "stream_rows"):
        wait(lambda: count(table) == 1, f"the row of {table}", SECONDS_MAX)
    wait(lambda: ready() == {"status": "ready", "reasons": []}, "nothing to be missing", SECONDS_MAX)
    expect(200, call("/health/ready", None), "it is ready")


def left_alone():
    about = MISSING["the broker"]
    return any(r["about"].endswith(about) and "left alone" in r["reason"] for r in ready()["reasons"])


def lost():
    wait(lambda: circuit() == 1, "the circuit to open", SECONDS_MAX)
    wait(left_alone, "the circuit to be told", SECONDS_MAX)
    expect(200, sql("SELECT count(*) FROM stream_rows"), "rows that were taken before")


def found():
    wait(lambda: count("stream_rows") == 2, "the row that came meanwhile", SECONDS_MAX)
    wait(lambda: circuit() == 0, "the circuit to close", SECONDS_MAX)
    # The model went with the client that was it.
    wait(lambda: "the broker" not in named(), "the broker not to be missing", SECONDS_MAX)


{"away": away, "back": back, "lost": lost, "found": found}[sys.argv[2]](*sys.argv[3:])
