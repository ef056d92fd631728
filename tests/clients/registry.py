"""A small schema registry that speaks as Confluent's does: subjects, versions, ids, references, faults on request.

Usage: registry.py [port]; prints its address, and ends when its standard input closes. Until then each line is a
schema, as a JSON string of its text or as the object that registries take, which is registered; its id is printed. POST /faults with {"status": 500, "count": 3} makes the next
three answers fail; {"stall_ms": 2000, "count": 1} makes the next one late. GET /asked tells how often each path was asked.
"""

import collections
import json
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    def __init__(self):
        self.lock = threading.Lock()
        self.schemas = []  # (type, text, references), by id from 1
        self.subjects = {}  # name -> ids, by version from 1
        self.faults = []
        self.asked = collections.Counter()

    def register(self, subject, entry):
        key = (
            entry.get("schemaType", "AVRO"),
            entry["schema"],
            json.dumps(entry.get("references") or [], sort_keys=True),
        )
        for reference in entry.get("references") or []:
            if self.version(reference["subject"], str(reference["version"])) is None:
                return None
        if key not in self.schemas:
            self.schemas.append(key)
        number = self.schemas.index(key) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def schema(self, number):
        if not 1 <= number <= len(self.schemas):
            return None
        kind, text, references = self.schemas[number - 1]
        answer = {"schema": text}
        # Registries leave out what is Avro.
        if kind != "AVRO":
            answer["schemaType"] = kind
        if references != "[]":
            answer["references"] = json.loads(references)
        return answer

    def version(self, subject, version):
        versions = self.subjects.get(subject, [])
        if version == "latest":
            version = str(len(versions))
        if not version.isdigit() or not 1 <= int(version) <= len(versions):
            return None
        number = versions[int(version) - 1]
        return {"subject": subject, "version": int(version), "id": number, **self.schema(number)}


REGISTRY = Registry()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def missing(self, code, what):
        self.answer(404, {"error_code": code, "message": f"{what} not found"})

    def failed(self):
        """Answers with a fault if one was asked for."""
        with REGISTRY.lock:
            REGISTRY.asked[self.path] += 1
            if not REGISTRY.faults:
                return False
            fault = REGISTRY.faults[0]
            fault["count"] = fault.get("count", 1) - 1
            if fault["count"] <= 0:
                REGISTRY.faults.pop(0)
        time.sleep(fault.get("stall_ms", 0) / 1000)
        if "status" not in fault:
            return False
        self.answer(fault["status"], {"error_code": fault["status"] * 100 + 1, "message": "a fault on request"})
        return True

    def do_GET(self):
        parts = [urllib.parse.unquote(part) for part in self.path.split("?")[0].strip("/").split("/")]
        if parts == ["asked"]:
            return self.answer(200, dict(REGISTRY.asked))
        if self.failed():
            return None
        with REGISTRY.lock:
            match parts:
                case ["subjects"]:
                    return self.answer(200, sorted(REGISTRY.subjects))
                case ["schemas", "ids", number] if number.isdigit():
                    found = REGISTRY.schema(int(number))
                    return self.answer(200, found) if found else self.missing(40403, "Schema")
                case ["subjects", subject, "versions"]:
                    versions = REGISTRY.subjects.get(subject)
                    if versions is None:
                        return self.missing(40401, "Subject")
                    return self.answer(200, list(range(1, len(versions) + 1)))
                case ["subjects", subject, "versions", version]:
                    found = REGISTRY.version(subject, version)
                    return self.answer(200, found) if found else self.missing(40402, "Version")
        return self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = [urllib.parse.unquote(part) for part in self.path.split("?")[0].strip("/").split("/")]
        if parts == ["faults"]:
            with REGISTRY.lock:
                REGISTRY.faults.append(json.loads(body))
            return self.answer(200, {})
        if self.failed():
            return None
        match parts:
            case ["subjects", subject, "versions"]:
                try:
                    entry = json.loads(body)
                    text = entry["schema"]
                    if entry.get("schemaType", "AVRO") in ("AVRO", "JSON"):
                        json.loads(text)
                except (ValueError, KeyError, TypeError):
                    return self.answer(422, {"error_code": 42201, "message": "Invalid schema"})
                with REGISTRY.lock:
                    number = REGISTRY.register(subject, entry)
                if number is None:
                    return self.answer(422, {"error_code": 42201, "message": "Invalid schema: a reference is missing"})
                return self.answer(200, {"id": number})
        return self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    for line in sys.stdin:
        said = json.loads(line)
        with REGISTRY.lock:
            number = REGISTRY.register("lines", said if isinstance(said, dict) else {"schema": said})
        print(number, flush=True)
