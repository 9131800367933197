"""What a program for Linux needs from the machine: its loader, its shared libraries and its version of glibc."""

import struct
from dataclasses import dataclass, field

from .project import PackagingError

SHT_DYNAMIC, SHT_VERNEED = 6, 0x6FFFFFFE
DT_NEEDED = 1
MACHINES = {62: "x86_64", 183: "aarch64"}


@dataclass
class Needs:
    machine: str
    # `None` if the program is linked statically.
    loader: "str | None" = None
    libraries: "list[str]" = field(default_factory=list)
    # The highest version of the symbols of glibc, such as (2, 34); `None` if there are none.
    glibc: "tuple[int, int] | None" = None

    def is_static(self):
        return self.loader is None


@dataclass
class Section:
    name_offset: int
    kind: int
    offset: int
    size: int
    link: int


def read_needs(path):
    """Reads a 64-bit little-endian ELF file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise PackagingError(f"{path} is not a program for 64-bit Linux (little-endian ELF)")
    machine = struct.unpack_from("<H", data, 18)[0]
    needs = Needs(MACHINES.get(machine, f"machine {machine}"))
    sections = read_sections(data)
    names = sections[struct.unpack_from("<H", data, 62)[0]]
    for section in sections:
        if text_at(data, names.offset + section.name_offset) == ".interp":
            needs.loader = text_at(data, section.offset)
        elif section.kind == SHT_DYNAMIC:
            needs.libraries = read_libraries(data, section, sections[section.link].offset)
        elif section.kind == SHT_VERNEED:
            needs.glibc = read_glibc(data, section, sections[section.link].offset)
    return needs


def read_sections(data):
    start = struct.unpack_from("<Q", data, 40)[0]
    size, count = struct.unpack_from("<HH", data, 58)
    if start == 0 or count == 0:
        raise PackagingError("the program has no section headers; strip its symbols with `strip`, not with sstrip")
    sections = []
    for index in range(count):
        name, kind, _flags, _address, offset, length, link = struct.unpack_from("<IIQQQQI", data, start + index * size)
        sections.append(Section(name, kind, offset, length, link))
    return sections


def text_at(data, offset):
    return data[offset : data.index(b"\0", offset)].decode("ascii")


def read_libraries(data, section, strings):
    libraries = []
    for offset in range(section.offset, section.offset + section.size, 16):
        tag, value = struct.unpack_from("<QQ", data, offset)
        if tag == DT_NEEDED:
            libraries.append(text_at(data, strings + value))
    return libraries


def read_glibc(data, section, strings):
    """The highest `GLIBC_2.N` among the versions that the program needs of its libraries."""
    highest = None
    offset = section.offset
    while True:
        _version, count, _file, first, following = struct.unpack_from("<HHIII", data, offset)
        entry = offset + first
        for _ in range(count):
            _hash, _flags, _other, name, step = struct.unpack_from("<IHHII", data, entry)
            words = text_at(data, strings + name).partition("GLIBC_")[2].split(".")
            if len(words) >= 2 and words[0].isdigit() and words[1].isdigit():
                found = (int(words[0]), int(words[1]))
                highest = found if highest is None else max(highest, found)
            entry += step
        if following == 0:
            return highest
        offset += following
