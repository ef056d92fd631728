"""Clients that nobody may refuse: some post orders, some ask for a view, some for a sign of life, each on
connections of its own, kept or new for each request, until the flag is gone. Arguments: the server's address, a
file for the ids that were acknowledged, the flag.

A connection that is refused, reset, or answered with anything but 200 is a refusal. There is one exception, as
in every client: a connection that was used before may have been closed while it was idle, before any byte of the
answer; the same request is then sent once more on a new one (an order counts once), and counted. Prints all
three numbers, and the first refusals, as JSON."""

import http.client
import itertools
import json
import os
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

address, file, flag = sys.argv[1:]
server = urlsplit(address)
TOKEN = {"Authorization": f"Bearer {os.environ['READER_TOKEN']}"}
# Behind the orders that were there before.
FIRST = 1_000_000
SHOWN_MAX = 20

lock, numbers, out = threading.Lock(), itertools.count(FIRST), open(file, "a")
told = {"answered": 0, "resent": 0, "refused": 0, "shown": []}


class Closed(Exception):
    """The connection ended before any byte of the answer."""


def count(what, shown=None):
    with lock:
        told[what] += 1
        if shown and len(told["shown"]) < SHOWN_MAX:
            told["shown"].append(shown)


def request(connection, kind, number):
    """The status, the body and the fate of the connection."""
    try:
        if kind == "post":
            body = json.dumps({"id": number, "shop": f"s{number % 5}", "amount": number % 100})
            connection.request("POST", "/hooks/orders", body, {"Content-Type": "application/json"})
        elif kind == "view":
            connection.request("GET", "/v1/views/by_shop", headers=TOKEN)
        else:
            connection.request("GET", "/health/live")
        if not connection.sock.recv(1, socket.MSG_PEEK):
            raise Closed("closed before an answer")
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed(repr(error)) from error
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.getheader("Connection")


def client(kind, keep):
    connection, used = None, False
    while os.path.exists(flag):
        with lock:
            number = next(numbers)
        answer = None
        while answer is None:
            connection = connection or http.client.HTTPConnection(server.hostname, server.port, timeout=30)
            try:
                answer = request(connection, kind, number)
            except (Closed, OSError, http.client.HTTPException) as error:
                again = used and isinstance(error, Closed)
                connection.close()
                connection, used = None, False
                if not again:
                    count("refused", f"{kind} {number}: {error!r}")
                    time.sleep(0.05)
                    break
                count("resent")
        if answer is None:
            continue
        status, said, fate = answer
        if status != 200:
            count("refused", f"{kind} {number}: {status} {said[:200]}")
        else:
            count("answered")
            if kind == "post":
                with lock:
                    out.write(f"{number}\n")
                    out.flush()
        used = True
        if not keep or fate == "close":
            connection.close()
            connection, used = None, False


kinds = itertools.product(("post", "view", "live"), (True, False), range(2))
clients = [threading.Thread(target=client, args=(kind, keep)) for kind, keep, _ in kinds]
for one in clients:
    one.start()
for one in clients:
    one.join()
print(json.dumps(told))
