"""The installer and the Homebrew formula of a release, filled in."""

import hashlib
import re

from . import project
from .project import PackagingError

INSTALLER = project.ROOT / "packaging/install.sh"
FORMULA = project.ROOT / "packaging/homebrew/orch-run.rb.in"


def write_installer(folder, repository):
    path = folder / "install.sh"
    path.write_text(fill(INSTALLER.read_text(encoding="utf-8"), repository, {}), encoding="utf-8")
    path.chmod(0o755)


def write_formula(folder, repository):
    """Writes the formula if the folder has the archives of all its platforms. Returns whether it did."""
    text = FORMULA.read_text(encoding="utf-8")
    digests = {}
    for triple in set(re.findall(r"@SHA256 ([\w-]+)@", text)):
        archive = folder / f"orch-{project.version()}-{triple}.tar.gz"
        if not archive.is_file():
            return False
        digests[f"SHA256 {triple}"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    (folder / "orch-run.rb").write_text(fill(text, repository, digests), encoding="utf-8")
    return True


def fill(text, repository, values):
    values = {"VERSION": project.version(), "REPOSITORY": repository, **values}
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    unfilled = re.search(r"@[A-Z][\w -]*@", text)
    if unfilled:
        raise PackagingError(f"{unfilled[0]} has no value")
    return text
