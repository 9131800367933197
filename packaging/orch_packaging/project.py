"""What the packages say about the project: its name, version, licence and texts."""

import os
import re
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The name in registries; the program is `orch`.
PACKAGE = "orch-run"
LICENSES = ["LICENSE-APACHE", "LICENSE-MIT"]
# Without the program: what every archive contains beside it.
TEXTS = ["README.md", "CHANGELOG.md", *LICENSES]


class PackagingError(Exception):
    """Ends a script with a message and exit code 2."""


def package_section(manifest):
    """The section `[package]` of a Cargo.toml; empty if it is not there."""
    text = manifest.read_text(encoding="utf-8")
    section = re.search(r"^\[package\]\n(.*?)(?=^\[|\Z)", text, re.S | re.M)
    return section[1] if section else ""


def cargo_field(name, manifest=ROOT / "Cargo.toml"):
    """A text of the section `[package]` of a Cargo.toml; `None` if it is not there."""
    field = re.search(rf'^{re.escape(name)} = "([^"]*)"$', package_section(manifest), re.M)
    return field[1] if field else None


def version():
    found = cargo_field("version")
    if found is None:
        raise PackagingError("Cargo.toml has no `version` in the section [package]")
    return found


def description():
    return cargo_field("description") or ""


def repository():
    return cargo_field("repository")


def authors():
    """The authors, such as `Name <address>`; empty if Cargo.toml names none."""
    found = re.search(r"^authors = \[(.*?)\]", package_section(ROOT / "Cargo.toml"), re.S | re.M)
    return re.findall(r'"([^"]*)"', found[1]) if found else []


def pep440(version):
    """The version as Python writes it: `1.2.0-rc.1` is `1.2.0rc1`."""
    match = re.fullmatch(r"(\d+\.\d+\.\d+)(?:-(alpha|beta|rc)\.?(\d+))?", version)
    if not match:
        raise PackagingError(
            f"the version `{version}` has no form for Python; write `1.2.3`, or `1.2.3-rc.1` with alpha, beta or rc"
        )
    release, stage, number = match.groups()
    return release if stage is None else release + {"alpha": "a", "beta": "b", "rc": "rc"}[stage] + number


def compression():
    """The level of compression of archives, from 1 to 9: ORCH_PACKAGE_COMPRESSION, or 9."""
    text = os.environ.get("ORCH_PACKAGE_COMPRESSION", "9")
    if len(text) != 1 or text not in "123456789":
        raise PackagingError(f"ORCH_PACKAGE_COMPRESSION is `{text}`; it must be a number from 1 to 9")
    return int(text)


def timestamp():
    """The time of all files in archives: SOURCE_DATE_EPOCH, or 1980, which is the earliest time that a ZIP file can
    have. So the same files make the same archive."""
    earliest = 315532800
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", earliest)), earliest)


def zip_time():
    return time.gmtime(timestamp())[:6]
