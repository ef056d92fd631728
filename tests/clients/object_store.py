"""S3 and Google Cloud Storage for the tests: moto behind a thin layer of latency and faults.

Arguments: which of them (s3, gcs, or gcs-unconditional, which forgets the conditions of writes: the
negative control); milliseconds to wait before each answer; of 1,000 requests, how many to refuse and
how many to do and then answer with 500; and if it is to hold something from the start, a bucket and
a folder whose files it holds, at the same path and as old as they are. Prints its address; ends when
its standard input closes. Until then a line there may be `outage REQUESTS MS`: after so many more
requests it answers nothing but 503 and 429 for a while; `refused`: it prints what it refused then;
`faults KIND PER_MILLE SEED`: from now on, of 1,000 requests so many go wrong, as the kind says (errors:
refused with 500, 503 or 429; slow: done after some seconds; lands-but-500: done, answered with 500;
timeouts: done or not, never answered; mixed: all of them; none: no more); or `struck`: it prints how
many went wrong so, by kind.
"""

import itertools
import json
import logging
import random
import re
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import create_backend_app
from werkzeug.serving import make_server

dialect = sys.argv[1]
delay_ms, refused, lost = (int(argument) for argument in sys.argv[2:5])
held = sys.argv[5:]
logging.getLogger("werkzeug").setLevel(logging.ERROR)

FAILED = "500 Internal Server Error"
BUSY = ["503 Slow Down", "429 Too Many Requests"]
KINDS = ["errors", "slow", "lands-but-500", "timeouts"]
# How long a slow request takes at most, and how long the client of one that gets no answer waits.
SLOW_S = 1
SILENCE_S = 0.5


class Faults:
    """Waits and fails by a fixed sequence, so that a run can be repeated."""

    def __init__(self, app):
        self.app = app
        self.state = 12345
        self.lock = threading.Lock()

    def draw(self):
        with self.lock:
            self.state = (self.state * 1103515245 + 12345) % 2**31
            return (self.state >> 8) % 1000

    def __call__(self, environ, start_response):
        if delay_ms:
            time.sleep(delay_ms / 1000)
        setting_up = environ.get("HTTP_X_NO_FAULTS") == "1"
        status = None if setting_up else outage.meets(environ)
        kind = None if setting_up else trouble.strikes()
        if kind:
            return self.suffer(kind, environ, start_response)
        drawn = 1000 if setting_up else self.draw()
        if status or drawn < refused:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return self.fail(start_response, status or FAILED)
        if drawn < refused + lost:
            for _ in self.app(environ, lambda *_: None):
                pass
            return self.fail(start_response, FAILED)
        return self.app(environ, start_response)

    def suffer(self, kind, environ, start_response):
        if kind == "slow":
            time.sleep(trouble.draw() * SLOW_S)
            return self.app(environ, start_response)
        if kind == "errors":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return self.fail(start_response, ([FAILED] + BUSY)[int(trouble.draw() * 3)])
        if kind == "lands-but-500" or trouble.draw() < 0.5:
            for _ in self.app(environ, lambda *_: None):
                pass
        if kind == "lands-but-500":
            return self.fail(start_response, FAILED)
        # Nobody is told anything: the connection is quiet for a while and then gone.
        time.sleep(SILENCE_S)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return self.fail(start_response, FAILED)

    @staticmethod
    def fail(start_response, status):
        start_response(status, [("Content-Length", "0")])
        return [b""]


class Outage:
    """A while in which everything is refused, and what was asked then.

    A request that is sent again is signed as it was: that tells it from another of the same kind.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.statuses = itertools.cycle(BUSY)
        self.ms = self.before = 0
        self.end = None
        self.asked = {}

    def plan(self, requests, ms):
        with self.lock:
            self.before, self.ms, self.end = requests, ms, None

    def meets(self, environ):
        """How a request is to be refused, or nothing. The first of an outage begins it."""
        now = time.monotonic()
        names = ["REQUEST_METHOD", "RAW_URI", "HTTP_RANGE", "HTTP_AUTHORIZATION"]
        request = tuple(environ.get(name, "") for name in names)
        with self.lock:
            if self.before:
                self.before -= 1
                return None
            if self.ms and self.end is None:
                self.end = now + self.ms / 1000
            refuses = self.end is not None and now < self.end
            if refuses or request in self.asked:
                self.asked.setdefault(request, []).append(now)
            return next(self.statuses) if refuses else None

    def refused(self):
        """Each request that was refused, how often, and the pauses before it came again."""
        told = []
        with self.lock:
            for (method, url, *_), moments in self.asked.items():
                count = sum(moment < self.end for moment in moments)
                pauses = [after - before for before, after in itertools.pairwise(moments[: count + 1])]
                told.append([f"{method} {url}", count, pauses])
        return told


outage = Outage()


class Trouble:
    """What goes wrong now, by a seed: which requests, though, is up to those that come."""

    def __init__(self):
        self.lock = threading.Lock()
        self.random = random.Random(0)
        self.kinds = []
        self.per_mille = 0
        self.counts = dict.fromkeys(KINDS, 0)

    def plan(self, kind, per_mille, seed):
        with self.lock:
            self.kinds = {"none": [], "mixed": KINDS}.get(kind, [kind])
            self.per_mille = int(per_mille)
            self.random = random.Random(int(seed))

    def draw(self):
        with self.lock:
            return self.random.random()

    def strikes(self):
        """How a request goes wrong, or nothing."""
        with self.lock:
            if not self.kinds or self.random.random() * 1000 >= self.per_mille:
                return None
            kind = self.random.choice(self.kinds)
            self.counts[kind] += 1
            return kind


trouble = Trouble()


# Moto checks no signature, but lets nobody in who has none.
SOMEBODY = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=b"


class Gcs:
    """Google's XML API is S3's under other header names; an object's generation is its etag."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        environ["HTTP_AUTHORIZATION"] = SOMEBODY
        for name in ("RAW_URI", "REQUEST_URI"):
            if name in environ:
                environ[name] = "/" + plain_bucket(environ[name].removeprefix("/"))
        generation = environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)
        if generation and dialect == "gcs":
            condition = {"HTTP_IF_NONE_MATCH": "*"} if generation == "0" else {"HTTP_IF_MATCH": f'"{generation}"'}
            environ.update(condition)
        source = environ.pop("HTTP_X_GOOG_COPY_SOURCE", None)
        if source:
            environ["HTTP_X_AMZ_COPY_SOURCE"] = plain_bucket(source)

        def start(status, headers, *more):
            tags = [value.strip('"') for name, value in headers if name.lower() == "etag"]
            return start_response(status, headers + [("x-goog-generation", tag) for tag in tags], *more)

        return self.app(environ, start)


def plain_bucket(path):
    """`my%2Dbucket/a%20b` with the bucket's name as moto knows it."""
    bucket = re.match("[^/?]*", path).group()
    return unquote(bucket) + path[len(bucket):]


def hold(bucket, folder):
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket(bucket, "us-east-1")
    for path in Path(folder).rglob("*"):
        if path.is_file():
            key = backend.put_object(bucket, str(path).lstrip("/"), path.read_bytes())
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            key.last_modified = modified.replace(tzinfo=None)


if held:
    hold(*held)
# S3 alone: finding out which service is meant would cost as much as the answer.
app = create_backend_app("s3")
app = Faults(app if dialect == "s3" else Gcs(app))
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
for line in sys.stdin:
    command, *words = line.split()
    if command == "outage":
        outage.plan(*(int(number) for number in words))
    elif command == "faults":
        trouble.plan(*words)
    elif command == "struck":
        print(json.dumps(trouble.counts), flush=True)
    else:
        print(json.dumps(outage.refused()), flush=True)
