"""Sits at a terminal before `sluice sql` and types, as a person would. Prints `done`.

Arguments: the folder to be in, the folder for state, a command (words separated by tabs) that
gives the job ten more rows, then the command of the session.
"""

import os
import pty
import select
import subprocess
import sys
import time

folder, state, more = sys.argv[1], sys.argv[2], sys.argv[3].split("\t")
session = sys.argv[4:]
SECONDS_MAX = 120
PROMPT = "sluice> "


class Terminal:
    def __init__(self):
        self.said = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ.update(XDG_STATE_HOME=state, TERM="xterm")
            os.execv(session[0], session)

    def read(self):
        ready, _, _ = select.select([self.fd], [], [], 1)
        if not ready:
            return True
        try:
            got = os.read(self.fd, 65536)
        except OSError:
            return False
        self.said += got.decode(errors="replace")
        return bool(got)

    def expect(self, text):
        """Waits until `text` is said, and forgets everything up to its end."""
        until = time.monotonic() + SECONDS_MAX
        while text not in self.said:
            if not self.read() or time.monotonic() > until:
                sys.exit(f"`{text}` is not said: {self.said!r}")
        said, self.said = self.said.split(text, 1)
        return said

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        while self.read():
            pass
        _, status = os.waitpid(self.pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"the session failed: {self.said!r}")


terminal = Terminal()
terminal.expect(PROMPT)
# What is typed is completed to the name of a table before the line goes on.
terminal.type("SELECT count(*) AS n FROM kep\t")
terminal.expect("kept")
terminal.type(" WHERE id > 0;\r")
terminal.expect("n\r\n20\r\n")
terminal.expect(PROMPT)
terminal.type("SELECT nope FROM kept;\r")
terminal.expect("hint: ")
terminal.expect(PROMPT)
# What was begun is forgotten.
terminal.type("SELECT 'begun\r")
terminal.expect("...> ")
terminal.type("\x03")
terminal.expect(PROMPT)
terminal.type("SELECT count(*) FROM generate_series(1, 1000000000000);\r")
terminal.expect("\n")
time.sleep(1)
terminal.type("\x03")
terminal.expect("stopped")
terminal.expect(PROMPT)
terminal.type("\\d kept\r")
terminal.expect("region")
terminal.expect(PROMPT)
subprocess.run(more, cwd=folder, check=True, capture_output=True)
terminal.type("SELECT count(*) AS n FROM kept;\r")
terminal.expect("n\r\n30\r\n")
terminal.expect(PROMPT)
terminal.type("\x04")
terminal.end()

# The last statement comes back in the next session.
terminal = Terminal()
terminal.expect(PROMPT)
terminal.type("\x1b[A")
terminal.expect("SELECT count(*) AS n FROM kept;")
terminal.type("\r")
terminal.expect("n\r\n30\r\n")
terminal.expect(PROMPT)
terminal.type("\\q\r")
terminal.end()
print("done")
