"""The source of the site: the documents with a page for each code, and links that fit the site."""

import os
import re
import shutil
from pathlib import PurePosixPath

from . import markdown, project

ROOT = project.ROOT
# Pages of the site that are outside of docs/, by their files.
OTHER_PAGES = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "examples/README.md": "examples.md",
    "packaging/README.md": "packaging.md",
}
PROJECT_CHAPTERS = """
# The project

- [Examples](examples.md)
- [Architecture](architecture.md)
- [Contributing](contributing.md)
- [Packages](packaging.md)
- [Security policy](security-policy.md)
- [Code of conduct](code-of-conduct.md)
- [Changelog](changelog.md)
"""
CHECKS = "docs/checks.md"
CODE_HEADING = re.compile(r"^### (ORCH\d{4}): (.+)$")


class Site:
    """Knows the page of each file, and the page of each anchor of docs/checks.md."""

    def __init__(self):
        names = [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "SUMMARY.md"]
        self.pages = {name: name.removeprefix("docs/") for name in names} | OTHER_PAGES
        checks = (ROOT / CHECKS).read_text(encoding="utf-8")
        self.introduction, self.codes = split_codes(checks)
        codes = {f"{code}: {title}": code for _, code, title, _ in self.codes}
        titles = [title for _, title in markdown.headings(checks)]
        self.code_of_anchor = {
            anchor: codes[title] for anchor, title in zip(markdown.anchors(checks), titles) if title in codes
        }

    def convert(self, text, source, page):
        """Makes the links of a text from a file of the repository fit the page of the site."""

        def replace(label, target):
            if "://" in target or target.startswith("mailto:"):
                return f"{label}({target})"
            path, _, anchor = target.partition("#")
            file = os.path.normpath(PurePosixPath(source).parent / path) if path else source
            new_page, new_anchor = self.find_page(file, anchor)
            if new_page is None:
                # The file is not on the site. Its name is in the label.
                return label.strip("![]")
            relative = "" if new_page == page else os.path.relpath(new_page, PurePosixPath(page).parent)
            return f"{label}({relative}{'#' + new_anchor if new_anchor or not relative else ''})"

        return markdown.replace_links(text, replace)

    def find_page(self, file, anchor):
        if file == CHECKS and anchor in self.code_of_anchor:
            return f"checks/{self.code_of_anchor[anchor]}.md", ""
        return self.pages.get(file), anchor

    def write(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "docs/checks").mkdir(parents=True)
        shutil.copy(ROOT / "book.toml", folder)
        for source, page in self.pages.items():
            text = self.checks_page() if source == CHECKS else (ROOT / source).read_text(encoding="utf-8")
            (folder / "docs" / page).write_text(self.convert(text, source, page), encoding="utf-8")
        for _, code, title, body in self.codes:
            page = f"checks/{code}.md"
            text = f"# {code}: {title}\n{body}"
            (folder / "docs" / page).write_text(self.convert(text, CHECKS, page), encoding="utf-8")
        (folder / "docs/SUMMARY.md").write_text(self.summary(), encoding="utf-8")

    def checks_page(self):
        """The introduction, and a list of the codes in place of their entries."""
        lines, last_section = [self.introduction.rstrip()], None
        anchors = {code: anchor for anchor, code in self.code_of_anchor.items()}
        for section, code, title, _ in self.codes:
            if section != last_section:
                lines.append(f"\n## {section}\n")
                last_section = section
            lines.append(f"- [{code}](#{anchors[code]}): {title}")
        return "\n".join(lines) + "\n"

    def summary(self):
        lines = []
        for line in (ROOT / "docs/SUMMARY.md").read_text(encoding="utf-8").rstrip().split("\n"):
            if line == "[Installation](install.md)":
                lines += ["[orch](overview.md)", ""]
            lines.append(line)
            if line.endswith("(checks.md)"):
                lines += [f"  - [{code}: {escape(title)}](checks/{code}.md)" for _, code, title, _ in self.codes]
        return "\n".join(lines) + "\n" + PROJECT_CHAPTERS


def escape(title):
    return title.replace("[", r"\[").replace("]", r"\]")


def split_codes(text):
    """Splits docs/checks.md into its introduction and its entries: section, code, title, text. What comes after the
    entries of the last section would be part of the last entry; there is nothing."""
    introduction, entries, section, body = [], [], None, None
    for _, line, is_prose in markdown.prose_lines(text):
        heading = CODE_HEADING.match(line) if is_prose else None
        if is_prose and line.startswith("## "):
            section, body = line[3:], None
        elif heading:
            body = []
            entries.append((section, heading[1], heading[2], body))
        elif body is not None:
            body.append(line)
        elif section is None:
            introduction.append(line)
    return "\n".join(introduction), [(section, code, title, "\n".join(body)) for section, code, title, body in entries]
