"""Requests at a steady pace over kept connections, and how long each answer took.

    paced.py '{"port": 8080, "rate": 2000, "connections": 64, "seconds": 20, "first": 1,
               "requests": [{"path": "/hooks/events", "body": "{\\"id\\": %d}"}]}'

Each connection asks by a clock of its own, its phase is chance, and the requests come in turn; a body's
`%d` is a running number, which is in X-Id too. What is due while an answer is awaited waits, and its time
counts from when it was due: a server that stands still is not asked less often for it. Otherwise it
counts from when it was sent; that it was sent late, because this process had no core, is told apart, and
`nice` (-10, for those who may) stands for clients that have cores of their own.
Printed is JSON: answers by status, quantiles in seconds of all and of each request, how late the latest
hundredth was sent, and this process's share of a core. All that was begun is waited for."""

import collections
import gc
import json
import os
import random
import select
import socket
import sys
import time

# How long the last answers may take.
PATIENCE_S = 30


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def quantiles(values):
    return {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99), "most": max(values)}


def prepared(request, port):
    """The head of a request without its length, and its body; the body is None where nothing is posted."""
    body = request.get("body")
    head = f"{'GET' if body is None else 'POST'} {request['path']} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    return (head + ("Content-Type: application/json\r\n" if body is not None else "")), body


def written(head, body, number):
    if body is None:
        return f"{head}\r\n".encode()
    text = body.replace("%d", str(number))
    return f"{head}X-Id: {number}\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}".encode()


def status_of(answer):
    """The status of an answer that is all there, else None."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, status = answer[:end].lower(), int(answer[9:12])
    at = head.find(b"content-length:")
    if at >= 0:
        line = head[at + 15 :].split(b"\r\n", 1)[0]
        return status if len(answer) >= end + 4 + int(line) else None
    if b"transfer-encoding: chunked" in head:
        return status if answer.endswith(b"\r\n0\r\n\r\n") else None
    return status


class Line:
    """A connection, what it waits for, and what waits for it: since when, which request, its number."""

    def __init__(self, port):
        self.port, self.waiting, self.asked, self.answer = port, collections.deque(), None, b""
        self.open()

    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)


class Pace:
    def __init__(self, asked):
        self.requests = [prepared(request, asked["port"]) for request in asked["requests"]]
        self.poll = select.epoll()
        self.first, self.total = asked.get("first", 0), int(asked["rate"] * asked["seconds"])
        self.period = asked["connections"] / asked["rate"]
        self.warm = int(asked["rate"] * asked.get("warm", 0))
        self.lines = [Line(asked["port"]) for _ in range(asked["connections"])]
        self.by_file = {}
        for line in self.lines:
            self.watch(line)
        chance = random.Random(7)
        self.phases = sorted(chance.random() * self.period for _ in self.lines)
        self.statuses, self.late, self.done = collections.Counter(), [], 0
        self.times = [[] for _ in self.requests]

    def watch(self, line):
        self.by_file[line.socket.fileno()] = line
        self.poll.register(line.socket, select.EPOLLIN)

    def due(self, at):
        """When a request is due, from the start on."""
        turn, place = divmod(at, len(self.lines))
        return turn * self.period + self.phases[place]

    def run(self):
        began, at = time.monotonic() + 0.1, 0
        ends = began + self.due(self.total) + PATIENCE_S
        while self.done < self.total:
            now = time.monotonic()
            while at < self.total and began + self.due(at) <= now:
                turn, place = divmod(at, len(self.lines))
                line, due = self.lines[place], began + self.due(at)
                idle = line.asked is None
                line.waiting.append((now if idle else due, (turn + place) % len(self.requests), at))
                if idle:
                    self.late.append(now - due)
                    self.send(line)
                at += 1
            if now > ends:
                break
            wait = began + self.due(at) - now if at < self.total else 0.1
            # epoll itself waits in whole milliseconds.
            select.select([self.poll], [], [], max(0, wait))
            for file, _ in self.poll.poll(0):
                self.receive(self.by_file[file])

    def send(self, line):
        line.asked = line.waiting.popleft()
        _, which, at = line.asked
        line.socket.sendall(written(*self.requests[which], self.first + at))

    def receive(self, line):
        try:
            piece = line.socket.recv(1 << 16)
        except OSError:
            piece = b""
        if not piece:
            return self.again(line)
        line.answer += piece
        status = status_of(line.answer)
        if status is None or line.asked is None:
            return None
        since, which, at = line.asked
        if at >= self.warm:
            self.times[which].append(time.monotonic() - since)
        self.end(line, status)

    def end(self, line, status):
        """An answer is there, or will never be: the next in line is asked."""
        self.statuses[status] += 1
        self.done, line.asked, line.answer = self.done + 1, None, b""
        if line.waiting:
            self.send(line)

    def again(self, line):
        """The connection broke: what was asked has no answer."""
        del self.by_file[line.socket.fileno()]
        line.socket.close()
        line.open()
        self.watch(line)
        if line.asked is not None:
            self.end(line, 0)

    def said(self, seconds, spent):
        every = [taken for times in self.times for taken in times]
        return {
            "sent": self.total,
            "statuses": self.statuses,
            "all": quantiles(every),
            "each": [quantiles(times) for times in self.times],
            "late_p99": quantile(self.late, 0.99),
            "core": spent / seconds,
        }


def main():
    asked = json.loads(sys.argv[1])
    pace = Pace(asked)
    os.nice(asked.get("nice", 0))
    gc.disable()
    began, spent = time.monotonic(), time.process_time()
    pace.run()
    print(json.dumps(pace.said(time.monotonic() - began, time.process_time() - spent)))


if __name__ == "__main__":
    main()
