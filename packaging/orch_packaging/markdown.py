"""Headings and links of Markdown files, outside of code."""

import re

LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]+)\)")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
FENCE = re.compile(r"^\s*(?:>\s*)*(?:[-*]\s+|\d+\.\s+)?(`{3,}(?=[^`]*$)|~{3,})")


def prose_lines(text):
    """The lines with their numbers, and whether they are prose and not code."""
    fence = None
    for number, line in enumerate(text.split("\n"), 1):
        match = FENCE.match(line)
        if fence is None and match:
            fence = match[1]
            yield number, line, False
        elif fence is not None:
            if match and match[1][0] == fence[0] and len(match[1]) >= len(fence) and line.strip() == match[1]:
                fence = None
            yield number, line, False
        else:
            yield number, line, True


def blocks(text):
    """Paragraphs, tables and lists with the numbers of their first lines; code and empty lines as blocks of their own.
    A link or inline code may continue on the next line, but not in the next block."""
    lines, start = [], 1
    for number, line, is_prose in prose_lines(text):
        if is_prose and line.strip():
            start = start if lines else number
            lines.append(line)
            continue
        if lines:
            yield start, "\n".join(lines), True
            lines = []
        yield number, line, False
    if lines:
        yield start, "\n".join(lines), True


def without_inline_code(block):
    """The block with code in backticks replaced by text of the same length."""
    code = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
    return code.sub(lambda match: re.sub(r"[^\n]", "x", match[0]), block)


def links(text):
    """The targets of links, with the numbers of their lines."""
    for start, block, is_prose in blocks(text):
        if is_prose:
            for match in LINK.finditer(without_inline_code(block)):
                yield start + block.count("\n", 0, match.start(2)), match[2]


def replace_links(text, replace):
    """Replaces each link by `replace(label, target)`, where the label has its brackets."""
    result = []
    for _, block, is_prose in blocks(text):
        if is_prose:
            masked, parts, end = without_inline_code(block), [], 0
            for match in LINK.finditer(masked):
                parts += [block[end : match.start()], replace(block[match.start(1) : match.end(1)], match[2])]
                end = match.end()
            block = "".join([*parts, block[end:]])
        result.append(block)
    return "\n".join(result)


def headings(text):
    """The levels and texts of the headings."""
    for _, line, is_prose in prose_lines(text):
        match = HEADING.match(line) if is_prose else None
        if match:
            yield len(match[1]), match[2]


def anchors(text):
    """The anchors of the headings, as GitHub makes them."""
    found = {}
    for _, title in headings(text):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        yield slug if count == 0 else f"{slug}-{count}"
    yield from re.findall(r'<a (?:id|name)="([^"]+)"', text)
