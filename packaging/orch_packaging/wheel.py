"""The wheel `orch-run`: pip puts the program itself into the folder of scripts, so no Python runs."""

import base64
import hashlib

from . import project
from .archive import Entry, write_zip
from .targets import wheel_tags


def write_wheel(out, platform, needs, contents):
    """Writes the wheel and returns its path."""
    version = project.pep440(project.version())
    stem = f"orch_run-{version}"
    tags = wheel_tags(platform, needs)
    info, data = f"{stem}.dist-info", f"{stem}.data"
    entries = [Entry(f"{data}/scripts/{platform.program}", contents.program, is_program=True)]
    if platform.npm_os != "win32":
        # pipx links man pages from this folder.
        pages = contents.man_pages().items()
        entries += [Entry(f"{data}/data/share/man/man1/{name}", page) for name, page in sorted(pages)]
    entries += [Entry(f"{info}/licenses/{name}", contents.texts[name]) for name in project.LICENSES]
    entries.append(Entry(f"{info}/METADATA", metadata(version, contents).encode()))
    entries.append(Entry(f"{info}/WHEEL", wheel_file(tags).encode()))
    entries.append(Entry(f"{info}/RECORD", record(entries, f"{info}/RECORD").encode()))
    path = out / f"{stem}-py3-none-{'.'.join(tags)}.whl"
    write_zip(path, entries)
    return path


def metadata(version, contents):
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project.PACKAGE}",
        f"Version: {version}",
        f"Summary: {project.description()}",
        "License-Expression: MIT OR Apache-2.0",
        *[f"License-File: {name}" for name in project.LICENSES],
        "Requires-Python: >=3.8",
        "Description-Content-Type: text/markdown; charset=UTF-8",
    ]
    if project.repository():
        lines.append(f"Project-URL: Repository, {project.repository()}")
    return "\n".join(lines) + "\n\n" + contents.texts["README.md"].decode()


def wheel_file(tags):
    lines = ["Wheel-Version: 1.0", "Generator: orch packaging/build", "Root-Is-Purelib: false"]
    return "\n".join([*lines, *[f"Tag: py3-none-{tag}" for tag in tags]]) + "\n"


def record(entries, own_name):
    """The digests of all files, as pip checks them."""

    def line(entry):
        digest = base64.urlsafe_b64encode(hashlib.sha256(entry.data).digest()).rstrip(b"=").decode()
        return f"{entry.name},sha256={digest},{len(entry.data)}"

    return "\n".join([*map(line, entries), f"{own_name},,"]) + "\n"
