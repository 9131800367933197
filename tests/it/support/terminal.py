"""Runs a program on a terminal of its own and types when it asks.

Arguments: pairs of what to wait for and what to type (`^C` for an interrupt), `--`, the program.
Prints what was shown; exits with the program's exit code, or 99 when it does not end in time.
"""

import os
import pty
import select
import sys
import time

split = sys.argv.index("--")
pairs = list(zip(sys.argv[1:split:2], sys.argv[2:split:2]))
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
shown, seen, begun = b"", 0, time.time()
while time.time() - begun < 30:
    ready, _, _ = select.select([terminal], [], [], 0.1)
    if ready:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            data = b""
        if not data:
            break
        shown += data
    if pairs and pairs[0][0].encode() in shown[seen:]:
        seen = len(shown)
        keys = pairs.pop(0)[1]
        os.write(terminal, b"\x03" if keys == "^C" else keys.encode() + b"\n")
else:
    os.kill(pid, 9)
    sys.exit(99)
sys.stdout.write(shown.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
