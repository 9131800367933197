"""Runs a program on a terminal of its own and types when it asks.

Arguments: pairs of what to wait for and what to type (`^C` for an interrupt,
`pause` for nothing), `--`, the program.
The variable TERMINAL_SIZE says how large the terminal is, such as `80x24`.
Prints what was shown; exits with the program's exit code, or 99 when it does not end in time.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

split = sys.argv.index("--")
pairs = list(zip(sys.argv[1:split:2], sys.argv[2:split:2]))
pid, terminal = pty.fork()
if pid == 0:
    columns, lines = map(int, os.environ.get("TERMINAL_SIZE", "80x24").split("x"))
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
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
        if keys == "pause":
            # Longer than two signals are taken for one.
            time.sleep(0.3)
            continue
        os.write(terminal, b"\x03" if keys == "^C" else keys.encode() + b"\n")
else:
    os.kill(pid, 9)
    sys.stdout.write(shown.decode(errors="replace"))
    sys.exit(99)
sys.stdout.write(shown.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
