"""The files that the packages of one platform contain."""

from dataclasses import dataclass

from . import project
from .project import PackagingError

# The file that `packaging/assets` writes for each shell.
COMPLETIONS = {
    "bash": "completions/orch.bash",
    "zsh": "completions/_orch",
    "fish": "completions/orch.fish",
    "elvish": "completions/orch.elv",
    "powershell": "completions/orch.ps1",
}


@dataclass
class Contents:
    program: bytes
    # README, changelog and licences, by their names.
    texts: "dict[str, bytes]"
    # Completions and man pages, by their paths.
    assets: "dict[str, bytes]"

    def man_pages(self):
        """The man pages by the names of their files."""
        return {name.rpartition("/")[2]: data for name, data in self.assets.items() if name.startswith("man/")}

    def completion(self, shell):
        return self.assets[COMPLETIONS[shell]]


def read_contents(binary, assets):
    if not binary.is_file():
        raise PackagingError(f"there is no program {binary}; build it, as with `cargo build --profile dist`")
    found = {path.relative_to(assets).as_posix(): path.read_bytes() for path in assets.rglob("*") if path.is_file()}
    missing = [name for name in [*COMPLETIONS.values(), "man/orch.1"] if name not in found]
    if missing:
        raise PackagingError(f"{assets} lacks {', '.join(missing)}; write these files with `packaging/assets`")
    texts = {name: (project.ROOT / name).read_bytes() for name in project.TEXTS}
    return Contents(binary.read_bytes(), texts, found)
