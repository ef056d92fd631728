"""An S3 store for the tests: moto behind a thin layer of latency and faults.

Arguments: milliseconds to wait before each answer; of 1,000 requests, how many to refuse and how
many to do and then answer with 500; and if it is to hold something from the start, a bucket and a
folder whose files it holds, at the same path and as old as they are. Prints its address; ends when its standard input
closes.
"""

import logging
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import create_backend_app
from werkzeug.serving import make_server

delay_ms, refused, lost = (int(argument) for argument in sys.argv[1:4])
held = sys.argv[4:]
logging.getLogger("werkzeug").setLevel(logging.ERROR)


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
        drawn = 1000 if setting_up else self.draw()
        if drawn < refused:
            return self.fail(environ, start_response)
        if drawn < refused + lost:
            for _ in self.app(environ, lambda *_: None):
                pass
            return self.fail(environ, start_response)
        return self.app(environ, start_response)

    @staticmethod
    def fail(environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length:
            environ["wsgi.input"].read(length)
        start_response("500 Internal Server Error", [("Content-Length", "0")])
        return [b""]


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
app = Faults(create_backend_app("s3"))
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()
