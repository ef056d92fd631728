"""A schema registry that conforms as far as readers ask it: schemas by their number, over HTTP.

Prints its address; ends when its standard input closes. Until then each line is a schema, as a JSON string
of its text, which gets the next number; the number is printed.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FORMAT = "application/vnd.schemaregistry.v1+json"
schemas = []


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        known = len(parts) == 3 and parts[:2] == ["schemas", "ids"] and 0 < int(parts[2]) <= len(schemas)
        told = {"schema": schemas[int(parts[2]) - 1]} if known else {"error_code": 40403, "message": "Schema not found"}
        body = json.dumps(told).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", FORMAT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
for line in sys.stdin:
    schemas.append(json.loads(line))
    print(len(schemas), flush=True)
