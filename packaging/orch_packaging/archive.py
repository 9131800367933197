"""Archives that depend on nothing but the files in them: order, times, owners and modes are fixed."""

import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass

from . import project


@dataclass(frozen=True)
class Entry:
    """A file of an archive."""

    name: str
    data: bytes
    is_program: bool = False

    @property
    def mode(self):
        return 0o755 if self.is_program else 0o644


def write_tar(path, entries):
    """Writes a compressed tar archive."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in sorted(entries, key=lambda entry: entry.name):
            info = tarfile.TarInfo(entry.name)
            info.size, info.mode, info.mtime = len(entry.data), entry.mode, project.timestamp()
            archive.addfile(info, io.BytesIO(entry.data))
    path.write_bytes(gzip.compress(raw.getvalue(), compresslevel=project.compression(), mtime=0))


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, project.zip_time())
            info.compress_type = zipfile.ZIP_DEFLATED
            # Unix, a regular file.
            info.create_system = 3
            info.external_attr = (0o100000 | entry.mode) << 16
            archive.writestr(info, entry.data, compresslevel=project.compression())


def write_release_archive(out, platform, contents):
    """Writes the archive for people: the program, completions, man pages, licences and README. Returns its path."""
    stem = f"orch-{project.version()}-{platform.triple}"
    entries = [Entry(f"{stem}/{platform.program}", contents.program, is_program=True)]
    entries += [Entry(f"{stem}/{name}", data) for name, data in contents.texts.items()]
    entries += [Entry(f"{stem}/{name}", data) for name, data in contents.assets.items()]
    if platform.npm_os == "win32":
        path = out / f"{stem}.zip"
        write_zip(path, sorted(entries, key=lambda entry: entry.name))
    else:
        path = out / f"{stem}.tar.gz"
        write_tar(path, entries)
    return path
