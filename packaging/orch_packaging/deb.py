"""The Debian package `orch-run`, made with dpkg-deb."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import project
from .project import PackagingError

# The package of Debian that has each shared library which orch may need.
LIBRARIES = {
    "libc.so.6": "libc6",
    "libm.so.6": "libc6",
    "libdl.so.2": "libc6",
    "libpthread.so.0": "libc6",
    "librt.so.1": "libc6",
    "libgcc_s.so.1": "libgcc-s1",
}


def write_deb(out, platform, needs, contents):
    """Writes the package and returns its path."""
    if shutil.which("dpkg-deb") is None:
        raise PackagingError("dpkg-deb is not installed; install the package dpkg, or leave `deb` out of --only")
    path = out / f"{project.PACKAGE}_{debian_version()}_{platform.debian}.deb"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        files = installed_files(contents)
        for name, data in files.items():
            write_file(root / name, data, 0o755 if name == "usr/bin/orch" else 0o644)
        size = sum(len(data) for data in files.values())
        write_file(root / "DEBIAN/control", control(platform, needs, size).encode(), 0o644)
        write_file(root / "DEBIAN/md5sums", md5sums(files).encode(), 0o644)
        for directory in [root, *[found for found in root.rglob("*") if found.is_dir()]]:
            directory.chmod(0o755)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(project.timestamp())}
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{project.compression()}", "--build", str(root), str(path)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return path


def debian_version():
    # `~` sorts before the release, as a pre-release must.
    return project.version().replace("-", "~")


def installed_files(contents):
    document = f"usr/share/doc/{project.PACKAGE}"
    files = {
        "usr/bin/orch": contents.program,
        "usr/share/bash-completion/completions/orch": contents.completion("bash"),
        "usr/share/zsh/vendor-completions/_orch": contents.completion("zsh"),
        "usr/share/fish/vendor_completions.d/orch.fish": contents.completion("fish"),
        f"{document}/copyright": copyright_file().encode(),
        f"{document}/changelog.gz": compress(contents.texts["CHANGELOG.md"]),
        f"{document}/README.md": contents.texts["README.md"],
    }
    files.update({f"usr/share/man/man1/{name}.gz": compress(page) for name, page in contents.man_pages().items()})
    return files


def compress(data):
    return gzip.compress(data, compresslevel=9, mtime=0)


def write_file(path, data, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def depends(needs):
    """The packages whose libraries the program needs, with the version of glibc."""
    unknown = [library for library in needs.libraries if library not in LIBRARIES and not library.startswith("ld-")]
    if unknown:
        raise PackagingError(f"the program needs {', '.join(unknown)}, and deb.py does not know which package has it")
    packages = {LIBRARIES[library] for library in needs.libraries if library in LIBRARIES}
    version = needs.glibc and ".".join(map(str, needs.glibc))
    return [f"{name} (>= {version})" if name == "libc6" and version else name for name in sorted(packages)]


def control(platform, needs, size):
    fields = {
        "Package": project.PACKAGE,
        "Version": debian_version(),
        "Architecture": platform.debian,
        # Without an author, dpkg-deb takes a name alone; packaging/ready does not.
        "Maintainer": (project.authors() or ["The maintainers of orch"])[0],
        "Installed-Size": str((size + 1023) // 1024),
        "Depends": ", ".join(depends(needs)),
        # Without certificates, no TLS connection to a provider works.
        "Recommends": "ca-certificates",
        "Suggests": "git",
        "Section": "utils",
        "Priority": "optional",
        "Homepage": project.repository(),
        "Description": f"{project.description().rstrip('.')}\n The program is called orch.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def md5sums(files):
    return "".join(f"{hashlib.md5(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))


def copyright_file():
    texts = [(project.ROOT / name).read_text(encoding="utf-8") for name in ["LICENSE-MIT", "LICENSE-APACHE"]]
    return "orch is licensed under the MIT licence or the Apache License 2.0, as you choose.\n\n" + "\n\n".join(texts)
