"""What an installed `orch` must do, whatever started it: exit codes, standard streams and signals."""

import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .project import PackagingError

# Only a broken program takes this long.
PATIENCE = 120
WAITING_PIPELINE = 'name: main\nsteps:\n  - { id: wait, run: [sleep, "600"] }\n'
STARTED = b"wait: started"
CANCELLED = 130


def check_program(name, command, version):
    """Checks the program that a command starts, in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="orch-check-") as folder:
        folder = Path(folder)
        check_commands(name, command, version, folder / "project")
        check_streams(name, command, folder)
        check_signals(name, command, folder / "signals")
    print(f"ok  {name}")


def require(holds, name, message):
    if not holds:
        raise PackagingError(f"{name}: {message}")


def run(command, folder, stdin=""):
    folder.mkdir(exist_ok=True)
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, timeout=PATIENCE)


def check_commands(name, command, version, folder):
    def expect(code, *arguments):
        done = run([*command, *arguments], folder)
        message = f"`orch {' '.join(arguments)}` ended with {done.returncode} instead of {code}: {done.stderr}"
        require(done.returncode == code, name, message)
        return done

    shown = expect(0, "--version").stdout
    require(shown == f"orch {version}\n", name, f"`orch --version` printed {shown!r}")
    expect(0, "init")
    expect(0, "pipeline", "validate")
    pipeline = folder / "pipelines/default.yaml"
    pipeline.write_text(pipeline.read_text().replace("agent: coder", "agent: nobody"))
    expect(2, "pipeline", "validate")
    expect(2, "no-such-command")


def check_streams(name, command, folder):
    (folder / "any.schema.json").write_text("{}")
    done = run([*command, "extract", "--schema", "any.schema.json"], folder, stdin='Here it is: {"answer": 42}')
    require(done.returncode == 0, name, f"`orch extract` ended with {done.returncode}: {done.stderr}")
    require(json.loads(done.stdout) == {"answer": 42}, name, f"`orch extract` printed {done.stdout!r}")


def check_signals(name, command, folder):
    (folder / "pipelines").mkdir(parents=True)
    (folder / "pipelines/main.yaml").write_text(WAITING_PIPELINE)
    for number in [signal.SIGTERM, signal.SIGINT]:
        code = status_after(command, folder, lambda process, _: process.send_signal(number))
        require(code == CANCELLED, name, f"a run ended with {code} instead of {CANCELLED} after {number.name}")
    code = status_after(command, folder, lambda _, terminal: os.write(terminal, b"\x03"))
    require(code == CANCELLED, name, f"a run ended with {code} instead of {CANCELLED} after Ctrl-C")
    # The language server handles no signals, so the signal ends the process.
    code = status_of_ended_server(command, folder)
    require(code == -signal.SIGTERM, name, f"`orch lsp` ended with {code} instead of the signal SIGTERM")


def status_after(command, folder, act):
    """Starts a run on a terminal of its own, acts when its command has started, and returns how the run ended."""
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [*command, "run", "main"],
        cwd=folder,
        # Without live progress: one line for each event.
        env={**os.environ, "TERM": "dumb"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=lambda: take_terminal(inner),
    )
    os.close(inner)
    try:
        read_until(terminal, STARTED)
        act(process, terminal)
        drain(process, terminal)
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def take_terminal(inner):
    """Makes the terminal the one that controls the process, so that Ctrl-C sends it a signal."""
    import fcntl
    import termios

    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)


def read_until(terminal, text):
    output, deadline = b"", time.monotonic() + PATIENCE
    while text not in output:
        if time.monotonic() > deadline:
            raise PackagingError(f"the run did not print {text!r}; its last output is {output[-500:]!r}")
        output += read_some(terminal)


def drain(process, terminal):
    """Reads the output until the process ends, so that it never waits for the terminal."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        read_some(terminal)


def read_some(terminal):
    ready, _, _ = select.select([terminal], [], [], 0.1)
    if not ready:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux reports the end of a terminal so: the process has ended.
        time.sleep(0.05)
        return b""


def status_of_ended_server(command, folder):
    initialize = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"processId": None, "capabilities": {}}}
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([*command, "lsp"], cwd=folder, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    try:
        process.stdin.write(f"Content-Length: {len(initialize)}\r\n\r\n{initialize}".encode())
        process.stdin.flush()
        # The server runs once it has answered.
        if process.stdout.read(14) != b"Content-Length":
            raise PackagingError("`orch lsp` did not answer")
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
