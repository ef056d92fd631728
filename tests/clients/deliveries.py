"""Senders of webhooks. Arguments: the server's address, what to send, and more.

mix FOLDER: by several clients at once the bodies of a folder, signed, with duplicates, two at one moment,
forgeries, stale ones, bodies that were cut off and connections that end in the middle of one; each gets its
status, and the server counts all of them. Prints how many deliveries to each source are valid. refused: what
must be refused, each with its status. flood FILE FLAG: orders by several clients at once as fast as they are
taken, the ids of those that were acknowledged into a file, as long as the flag is there; a server that is
not there is tried again.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.openmetrics.parser import text_string_to_metric_families

address, what, *more = sys.argv[1:]
server = urlsplit(address)

CLIENTS = 8
KINDS = ["valid", "again", "race", "forged", "nothing", "cut", "broken off", "gone", "fresh", "stale"]


def post(path, body, headers=(), method="POST"):
    """The status and the body of an answer."""
    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=30)
    given = {"Content-Type": "application/json"} | dict(headers)
    connection.request(method, path, body=body, headers=given)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, said, answer.headers


def expect(status, answer, why):
    assert answer[0] == status, f"{why}: {answer[0]} instead of {status}: {answer[1][:300]}"


def github(body, secret=None):
    key = (secret or os.environ["GITHUB_SECRET"]).encode()
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def standard(body, identity, at, secret=None):
    key = base64.b64decode((secret or os.environ["HOOKS_SECRET"]).removeprefix("whsec_"))
    signed = f"{identity}.{at}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": identity, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


def break_off(path, body, headers, listens):
    """Ends a connection in the middle of a body. Gives the status of the answer to who still listens."""
    given = {"Host": server.netloc, "Content-Type": "application/json", "Content-Length": len(body)} | headers
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    with socket.create_connection((server.hostname, server.port), timeout=30) as line:
        line.sendall("\r\n".join(head).encode() + body[: len(body) // 2])
        if not listens:
            return None
        line.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status


def outcomes():
    """The deliveries that the server has counted, by source and outcome."""
    text = urllib.request.urlopen(f"{address}/metrics", timeout=30).read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    counted = (sample for sample in samples if sample.name == "sluice_webhook_requests_total")
    return {(sample.labels["source"], sample.labels["outcome"]): int(sample.value) for sample in counted}


class Mix:
    """All kinds of deliveries, and what was answered to them."""

    def __init__(self, folder):
        self.bodies = [path.read_bytes() for path in sorted(Path(folder).glob("*.json"))]
        assert len(self.bodies) > 100, f"{len(self.bodies)} bodies"
        self.told, self.lock = Counter(), threading.Lock()

    def tell(self, path, outcome):
        with self.lock:
            self.told[path.rsplit("/", 1)[1], outcome] += 1

    def taken(self, path, body, headers):
        answer = post(path, body, headers)
        expect(200, answer, "valid")
        status = json.loads(answer[1])["status"]
        self.tell(path, status)
        return status

    def refused(self, path, body, headers, status, outcome):
        expect(status, post(path, body, headers), outcome)
        self.tell(path, outcome)

    def broken(self, body, headers, listens):
        status = break_off("/hooks/github", body, headers, listens)
        assert status == (400 if listens else None), status
        self.tell("/hooks/github", "malformed")

    def raced(self, body, headers):
        pair = [threading.Thread(target=self.taken, args=("/hooks/github", body, headers)) for _ in range(2)]
        for one in pair:
            one.start()
        for one in pair:
            one.join()

    def send(self, number):
        """One body in all ways, in an order of its own."""
        body, chance, path = self.bodies[number], random.Random(number), "/hooks/github"
        note, half = json.dumps({"id": number}).encode(), body[: len(body) // 2]
        sent = []

        def named(name, signature=github(body)):
            return {"X-GitHub-Delivery": f"{name}-{number}", "X-GitHub-Event": "any", "X-Hub-Signature-256": signature}

        for kind in chance.sample(KINDS, k=len(KINDS)):
            if kind in ("valid", "again"):
                sent.append(self.taken(path, body, named("delivery")))
            elif kind == "race":
                self.raced(body, named("race"))
            elif kind == "forged":
                self.refused(path, body, named("forged", github(body, "another")), 401, "unauthorized")
            elif kind == "nothing":
                self.refused(path, body, {"X-GitHub-Delivery": f"nothing-{number}"}, 401, "unauthorized")
            elif kind == "cut":
                # On its way, and by its sender, who signs what is left of it.
                self.refused(path, half, named("cut"), 401, "unauthorized")
                self.refused(path, half, named("cut", github(half)), 400, "malformed")
            elif kind in ("broken off", "gone"):
                self.broken(body, named("broken"), kind == "broken off")
            elif kind == "fresh":
                self.taken("/hooks/signed", note, standard(note, f"note-{number}", int(time.time())))
            else:
                at = int(time.time()) + chance.choice([-3600, 3600])
                self.refused("/hooks/signed", note, standard(note, f"stale-{number}", at), 401, "stale")
        assert sent == ["accepted", "duplicate"], sent


def send_mix(folder):
    mix = Mix(folder)
    count = len(mix.bodies)
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(mix.send, range(count)))
    valid = mix.told["github", "accepted"] + mix.told["github", "duplicate"]
    assert valid == 4 * count, f"{valid} valid deliveries of {4 * count} were answered"
    # Those who went before they were answered are counted a moment later.
    for _ in range(600):
        if outcomes() == dict(mix.told):
            break
        time.sleep(0.1)
    else:
        sys.exit(f"counted: {outcomes()}\nsent: {dict(mix.told)}")
    # What two sent at one moment is one delivery, whatever was answered.
    print(2 * count, count)


def send_refused():
    now = int(time.time())
    body = b'{"id": 1}'
    expect(401, post("/hooks/signed", body), "no signature")
    expect(401, post("/hooks/signed", body, standard(body, "m1", now - 3600)), "an hour old")
    expect(401, post("/hooks/signed", body, standard(body, "m1", now + 3600)), "from the future")
    expect(401, post("/hooks/signed", b'{"id": 2}', standard(body, "m1", now)), "another body")
    expect(401, post("/hooks/signed", body, standard(body, "m1", now, "whsec_AAAA")), "another secret")
    expect(200, post("/hooks/signed", body, standard(body, "m1", now)), "valid")
    again = post("/hooks/signed", body, standard(body, "m1", now))
    expect(200, again, "valid again")
    assert json.loads(again[1])["status"] == "duplicate", again
    expect(405, post("/hooks/orders", b"", method="DELETE"), "not posted")
    expect(400, post("/hooks/orders", b'{"id": '), "cut off")
    expect(400, post("/hooks/orders", b"1"), "no object")
    expect(415, post("/hooks/orders", b"<a/>", {"Content-Type": "text/xml"}), "no JSON")
    expect(413, post("/hooks/orders", b'{"id": 9, "shop": "' + b"x" * 70_000 + b'"}'), "too large")
    expect(404, post("/hooks/nobody", b"{}"), "no such route")
    refused = json.loads(post("/hooks/signed", body)[1])
    assert refused["code"] == "unauthenticated" and refused["hint"] and refused["request_id"], refused
    reader = {"Authorization": f"Bearer {os.environ['READER_TOKEN']}"}
    expect(404, post("/hooks/nobody", b"{}", reader), "no such route")
    expect(200, post("/hooks/orders", b'[{"id": 1, "shop": "a", "amount": 2}, {"id": 2, "shop": "b", "amount": 3}]'), "a list")
    lines = b'{"id": 3, "shop": "a", "amount": 5}\n{"id": 4, "shop": "c", "amount": 1}\n'
    expect(200, post("/hooks/orders", lines, {"Content-Type": "application/x-ndjson"}), "lines")
    form = post("/hooks/orders", b"payload=%7B%22id%22%3A%205%7D", {"Content-Type": "application/x-www-form-urlencoded"})
    expect(200, form, "a form")
    # Acknowledged: what does not fit the schema is a row to be looked at.
    expect(200, post("/hooks/orders", b'{"shop": "no id"}'), "no id")


def flood(file, flag):
    lock, numbers, out = threading.Lock(), iter(range(1, 10**9)), open(file, "a")

    def client():
        connection = None
        while os.path.exists(flag):
            with lock:
                number = next(numbers)
            body = json.dumps({"id": number, "shop": f"s{number % 5}", "amount": number % 100})
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=10)
                connection.request("POST", "/hooks/orders", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    with lock:
                        out.write(f"{number}\n")
                        out.flush()
                elif answer.status not in (429, 503):
                    sys.exit(f"{answer.status} for {body}")
            except (OSError, http.client.HTTPException):
                connection = None
                time.sleep(0.02)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()


{"mix": send_mix, "refused": send_refused, "flood": flood}[what](*more)
