"""A supervisor that keeps the socket of a service, as systemd does: it listens, hands the socket over to one process
after another, and nobody who connects meanwhile is refused. Arguments: the server's address, the folder to be in,
and the command (words separated by tabs)."""

import os
import signal
import socket
import sys
from urllib.parse import urlsplit

address, folder, command = sys.argv[1:]
command = command.split("\t")
server = urlsplit(address)
TOKEN = f"Authorization: Bearer {os.environ['READER_TOKEN']}"
# The first descriptor that is handed over.
FIRST = 3


def started(listener):
    """A process that has the socket."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(folder)
        os.dup2(listener.fileno(), FIRST)
        os.set_inheritable(FIRST, True)
        named = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
        os.execve(command[0], command, os.environ | named)
    finally:
        os._exit(127)


def ended(child):
    """Ends a process in peace."""
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"it ended with {code}"


def asking():
    """A client that has asked, whether anybody is there or not."""
    client = socket.create_connection((server.hostname, server.port), timeout=120)
    head = ["GET /v1/views/by_shop HTTP/1.1", f"Host: {server.netloc}", TOKEN, "Connection: close", "", ""]
    client.sendall("\r\n".join(head).encode())
    return client


def answered(client):
    said = b""
    while part := client.recv(65536):
        said += part
    assert said.startswith(b"HTTP/1.1 200 "), said[:400]


with socket.create_server((server.hostname, server.port), backlog=128) as listener:
    early = asking()
    child = started(listener)
    try:
        answered(early)
        answered(asking())
        ended(child)
        # Nobody has it now, and yet it is open.
        between = asking()
        child = started(listener)
        answered(between)
        ended(child)
        child = None
    finally:
        if child:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
print("done")
