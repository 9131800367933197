"""The platforms, and what each kind of package calls them."""

from dataclasses import dataclass

from . import elf
from .project import PackagingError


@dataclass(frozen=True)
class Platform:
    triple: str
    npm_os: str
    npm_cpu: str
    # The tag of a wheel; for Linux it depends on what the program needs.
    wheel: str
    # The architecture of Debian; `None` if it makes no package.
    debian: "str | None" = None

    @property
    def is_linux(self):
        return self.npm_os == "linux"

    @property
    def program(self):
        return "orch.exe" if self.npm_os == "win32" else "orch"

    @property
    def npm_package(self):
        return f"@orch-run/{self.npm_os}-{self.npm_cpu}"


PLATFORMS = {
    platform.triple: platform
    for platform in [
        Platform("x86_64-unknown-linux-gnu", "linux", "x64", "x86_64", "amd64"),
        Platform("aarch64-unknown-linux-gnu", "linux", "arm64", "aarch64", "arm64"),
        Platform("x86_64-unknown-linux-musl", "linux", "x64", "x86_64", "amd64"),
        Platform("aarch64-unknown-linux-musl", "linux", "arm64", "aarch64", "arm64"),
        # The oldest versions of macOS for which rustc links by default.
        Platform("x86_64-apple-darwin", "darwin", "x64", "macosx_10_12_x86_64"),
        Platform("aarch64-apple-darwin", "darwin", "arm64", "macosx_11_0_arm64"),
        Platform("x86_64-pc-windows-msvc", "win32", "x64", "win_amd64"),
    ]
}


def find_platform(triple):
    if triple not in PLATFORMS:
        raise PackagingError(f"there are no packages for `{triple}`; the targets are {', '.join(PLATFORMS)}")
    return PLATFORMS[triple]


def read_needs(platform, binary):
    """What the program needs from a Linux machine; `None` for other platforms."""
    if not platform.is_linux:
        return None
    needs = elf.read_needs(binary)
    if needs.machine != platform.wheel:
        raise PackagingError(f"{binary} is a program for {needs.machine}, and the target is {platform.triple}")
    if needs.loader is not None and "musl" in needs.loader:
        raise PackagingError(f"{binary} needs musl of the machine ({needs.loader}); link it statically, or with glibc")
    return needs


def wheel_tags(platform, needs):
    """The platform tags of a wheel, which say on which machines pip installs it."""
    if needs is None:
        return [platform.wheel]
    if needs.is_static():
        # It needs nothing of the machine, so any glibc and any musl will do.
        return [f"manylinux_2_17_{platform.wheel}", f"manylinux2014_{platform.wheel}", f"musllinux_1_1_{platform.wheel}"]
    major, minor = max(needs.glibc or (2, 17), (2, 17))
    tags = [f"manylinux_{major}_{minor}_{platform.wheel}"]
    if (major, minor) == (2, 17):
        tags.append(f"manylinux2014_{platform.wheel}")
    return tags
