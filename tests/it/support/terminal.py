"""Runs a program on its own terminal and types keys when it prints given texts.

Arguments: pairs of a text to wait for and the keys to type, then `--` and the program.
The keys `^C` interrupt the program, `pause` waits without typing, `type TEXT` types a text without
the key that ends a line, and `run COMMAND` runs a shell command without typing.
TERMINAL_SIZE is the size of the terminal, such as `80x24`.
Prints the output of the program, and exits with the program's exit code, or with 99 after a
time-out.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

TIMEOUT_SECONDS = 30

separator = sys.argv.index("--")
pending_inputs = list(zip(sys.argv[1:separator:2], sys.argv[2:separator:2]))
pid, terminal = pty.fork()
if pid == 0:
    columns, lines = map(int, os.environ.get("TERMINAL_SIZE", "80x24").split("x"))
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    os.execvp(sys.argv[separator + 1], sys.argv[separator + 1 :])
output, matched_bytes, start = b"", 0, time.time()
while time.time() - start < TIMEOUT_SECONDS:
    ready, _, _ = select.select([terminal], [], [], 0.1)
    if ready:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            data = b""
        if not data:
            break
        output += data
    if pending_inputs and pending_inputs[0][0].encode() in output[matched_bytes:]:
        matched_bytes = len(output)
        keys = pending_inputs.pop(0)[1]
        if keys == "pause":
            # orch counts two signals within a shorter time as one.
            time.sleep(0.3)
            continue
        if keys.startswith("run "):
            subprocess.run(keys.removeprefix("run "), shell=True, stdout=subprocess.DEVNULL, check=True)
            continue
        if keys.startswith("type "):
            os.write(terminal, keys.removeprefix("type ").encode())
            continue
        os.write(terminal, b"\x03" if keys == "^C" else keys.encode() + b"\n")
else:
    os.kill(pid, 9)
    sys.stdout.write(output.decode(errors="replace"))
    sys.exit(99)
sys.stdout.write(output.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
