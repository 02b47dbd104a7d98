"""Links within the documentation lead to what is there."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
)
FENCED = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?:(?!`).)+?\1(?!`)", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
LINKED_TEXT = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


@cache
def prose(page: Path) -> str:
    """Return the text of *page* without its code blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def links(text: str) -> list[str]:
    """Return where the links and pictures of *text* lead; what stands in code is none."""
    return LINK.findall(CODE.sub("code", text))


@cache
def slugs(page: Path) -> set[str]:
    """Return the fragments of the headings of *page* as GitHub makes them: of equal ones, the second has -1."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.*?)[ #]*$", prose(page), re.MULTILINE):
        plain = LINKED_TEXT.sub(r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken(page: Path, link: str) -> str:
    """Return why *link* of *page* leads nowhere; nothing if it leads somewhere, or out of the project."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return ""
    path, _, fragment = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: there is no such file"
    if fragment and (target.suffix != ".md" or fragment not in slugs(target)):
        return f"{link}: there is no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each relative link leads to a file that exists, and its fragment to a heading of that file."""
    found = links(prose(ROOT / page))
    assert [why for why in (broken(ROOT / page, link) for link in found) if why] == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A missing file and a missing heading are named; code, other sites and repeated headings are understood."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b_c` & [d](e.md)!\n## Twice\n## Twice\n```\n## Code\n[x](none)\n```\n"
        "[1](#a-b_c--d) [2](#twice-1) [3](page.md#twice) [4](https://x.y/#z) `[5](none)`\n[6](none.md) [7](#code)\n"
    )
    found = [broken(page, link) for link in links(prose(page))]
    assert [why for why in found if why] == [
        "e.md: there is no such file",
        "none.md: there is no such file",
        "#code: there is no such heading",
    ]
