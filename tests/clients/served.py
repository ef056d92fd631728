"""What clients of a served project share: requests as its users, and waiting. The server's address is the first
argument of every client; tokens are in the environment."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

address = sys.argv[1]
READER, OPERATOR, ADMIN = (os.environ[f"{name}_TOKEN"] for name in ("READER", "OPERATOR", "ADMIN"))


def call(path, token=READER, method="GET", body=None, **headers):
    """The status, the headers and the bytes of an answer."""
    request = urllib.request.Request(address + path, method=method, data=body)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def expect(status, answer, why=""):
    assert answer[0] == status, f"{why}: {answer[0]} instead of {status}: {answer[2][:400]}"
    return answer


def get(path, **more):
    return json.loads(expect(200, call(path, **more), path)[2])


def get_text(path):
    """What anybody may read."""
    return expect(200, call(path, None), path)[2].decode()


def sql(statement, token=READER, accept="application/json", **params):
    body = json.dumps({"sql": statement, "params": params}).encode()
    return call("/v1/sql", token, "POST", body, Content_Type="application/json", Accept=accept)


def deliver(path, rows):
    """Posts rows to a webhook that verifies nothing."""
    expect(200, call(path, None, "POST", json.dumps(rows).encode(), Content_Type="application/json"), path)


def wait(until, why, seconds=60):
    for _ in range(seconds * 10):
        if until():
            return
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {why}")


def fill():
    """A hundred orders, which can be read when this returns."""
    deliver("/hooks/orders", [{"id": n, "shop": f"s{n % 5}", "amount": n} for n in range(100)])
    wait(lambda: sum(row["orders"] for row in get("/v1/views/by_shop")["rows"]) == 100, "the orders")
