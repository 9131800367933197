"""The build backend of pyproject.toml: a wheel without files that needs the wheel `orch-run` of the same version."""

from pathlib import Path

from . import project
from .archive import Entry, write_zip
from .wheel import record, wheel_file

NAME = "orch-run-hook"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version = project.pep440(project.version())
    stem = f"orch_run_hook-{version}"
    info = f"{stem}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {NAME}",
        f"Version: {version}",
        f"Summary: Installs {project.PACKAGE} for pre-commit.",
        f"Requires-Dist: {project.PACKAGE}=={version}",
    ]
    entries = [
        Entry(f"{info}/METADATA", ("\n".join(metadata) + "\n").encode()),
        Entry(f"{info}/WHEEL", wheel_file(["any"]).replace("Purelib: false", "Purelib: true").encode()),
    ]
    # A tag is `py3-none-any`: any Python, no binary interface, any platform.
    entries.append(Entry(f"{info}/RECORD", record(entries, f"{info}/RECORD").encode()))
    name = f"{stem}-py3-none-any.whl"
    write_zip(Path(wheel_directory) / name, entries)
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise project.PackagingError("there is no source distribution for Python; the wheels come from packaging/build")
