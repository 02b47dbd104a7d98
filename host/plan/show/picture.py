"""The picture of a plan, as SVG: stages from top to bottom, steps as boxes, who waits for whom, and the seal.

Written by hand: a few rectangles and lines need no library. Every text is made `printable`, then escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from ....ipc.errors import printable
from ....ipc.stage import Stage
from ....sandbox.declaration import SEAL
from ..order import Edge
from .rows import Row

_WIDTH = 1180
_MARGIN = 16
_BOX_LEFT, _BOX_RIGHT = 310, 640
_WHY_LEFT = 664
_LINE = 15
_LANE = 13
_MOST_LANES = 8
_PER_LINE = 80

COLOURS: Mapping[str, str] = {
    "files": "#2f6fb3",
    "devices": "#8a4fb0",
    "gpu": "#6a5acd",
    "network": "#b3472f",
    "local-sockets": "#b3742f",
    "threads": "#2f8f6b",
    "subprocesses": "#8f2f5c",
    "executable-memory": "#a8891c",
    "graphics-driver": "#8a4fb0",
    "single-threaded": "#4a4f57",
}
"""One colour for each need."""

_STYLE = """
text { font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: 12px; fill: #22262b }
.title { font-size: 17px; font-weight: 600 } .stage { font-weight: 600; font-size: 13px }
.dim { fill: #646b74 } .small { font-size: 11px } .chip { font-size: 10.5px; fill: #fff } .refused { fill: #b00020 }
.band { fill: #f4f6f8 } .box { fill: #fff; stroke: #9aa3ad; stroke-width: 1.2 }
.arc { fill: none; stroke: #5b6470; stroke-width: 1.3 } .seal { stroke: #b00020; stroke-width: 4 }
""".strip()


class _Placed(NamedTuple):
    """A row with its place: ``top`` and ``height`` in pixels, and its reasons wrapped, those refused apart."""

    row: Row
    top: int
    height: int
    why: list[str]
    refused: list[str]

    @property
    def middle(self) -> int:
        return self.top + self.height // 2


def picture(title: str, rows: Sequence[Row], edges: Sequence[Edge]) -> str:
    """Return an SVG document that shows *rows* with *title*, and those *edges* that join two of their steps."""
    placed = list(_place(rows))
    arcs = list(_arcs(placed, edges))
    height = placed[-1].top + placed[-1].height + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_safe(title)}">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 Z" fill="#5b6470"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(_MARGIN, 30, title, "title"),
    ]
    for one in placed:
        parts += _box(one) if one.row.step else _band(one)
    return "\n".join([*parts, *arcs, *_seal(placed), "</svg>", ""])


def _place(rows: Sequence[Row]) -> Iterator[_Placed]:
    top = 48
    for row in rows:
        why = _wrapped(row.why)
        refused = _wrapped([f"refused: {each}" for each in row.refused])
        if row.step:
            chips = bool(row.needs or row.needs_after_seal)
            own = 1 + chips + bool(row.leaves)
            height = max(own, len(why) + len(refused)) * _LINE + 14
            yield _Placed(row, top, height, why, refused)
            top += height + 8
        else:
            yield _Placed(row, top, 30, why, refused)
            top += 38
        if row.stage is Stage.SEAL and row is [each for each in rows if each.stage is Stage.SEAL][-1]:
            top += 22


def _wrapped(sentences: Sequence[str]) -> list[str]:
    return [line for sentence in sentences for line in textwrap.wrap(printable(sentence), _PER_LINE)]


def _band(placed: _Placed) -> Iterator[str]:
    row, top, y = placed.row, placed.top, placed.middle + 4
    yield f'<rect class="band" x="{_MARGIN}" y="{top}" width="{_WIDTH - 2 * _MARGIN}" height="{placed.height}" rx="6"/>'
    yield _text(_MARGIN + 12, y, f"{int(row.stage)}", "stage dim")
    yield _text(_MARGIN + 38, y, row.stage.label, "stage")
    yield _text(_MARGIN + 150, y, row.where, "dim")
    yield _text(_BOX_LEFT, y, " ".join(placed.why), "dim")


def _box(placed: _Placed) -> Iterator[str]:
    row, top = placed.row, placed.top
    width = _BOX_RIGHT - _BOX_LEFT
    dashed = ' stroke-dasharray="4 3"' if row.phase != "run" else ""
    yield f'<rect class="box" x="{_BOX_LEFT}" y="{top}" width="{width}" height="{placed.height}" rx="5"{dashed}/>'
    if row.phase == "run":
        colour = COLOURS[row.needs[0]] if row.needs else "#9aa3ad"
        yield f'<rect x="{_BOX_LEFT}" y="{top}" width="6" height="{placed.height}" rx="3" fill="{colour}"/>'
    y = top + 19
    yield _text(_BOX_LEFT + 16, y, _short(row.step if row.phase == "run" else f"{row.phase} of {row.step}"), "stage")
    if row.where == "zygote":
        yield _text(_BOX_RIGHT - 10, y, "zygote", "small dim", "end")
    elif row.optional:
        yield _text(_BOX_RIGHT - 10, y, "optional", "small dim", "end")
    if row.needs or row.needs_after_seal:
        y += _LINE + 1
        yield from _chips([*row.needs, *(f"{need} sealed" for need in row.needs_after_seal)], y)
    if row.leaves:
        yield _text(_BOX_LEFT + 16, y + _LINE, _short(f"leaves {'; '.join(row.leaves)}", 52), "small dim")
    for index, line in enumerate([*placed.why, *placed.refused]):
        kind = "small refused" if index >= len(placed.why) else "small"
        yield _text(_WHY_LEFT, top + 17 + index * _LINE, line, kind)


def _chips(needs: Sequence[str], y: int) -> Iterator[str]:
    left = _BOX_LEFT + 16
    for need in needs:
        width = round(len(need) * 6.3) + 12
        if left + width > _BOX_RIGHT - 6:
            yield _text(left, y, "...", "small dim")
            return
        colour = COLOURS[need.removesuffix(" sealed")]
        yield f'<rect x="{left}" y="{y - 11}" width="{width}" height="14" rx="7" fill="{colour}"/>'
        yield _text(left + 6, y - 1, need, "chip")
        left += width + 5


def _arcs(placed: Sequence[_Placed], edges: Sequence[Edge]) -> Iterator[str]:
    """Draw an arrow on the left of the boxes for each edge, the shortest nearest; say how many found no lane."""
    boxes = {one.row.step: one for one in placed if one.row.phase == "run"}
    pairs = dict.fromkeys((edge.first, edge.second) for edge in edges if SEAL not in (edge.first, edge.second))
    joined = [(boxes[first], boxes[second]) for first, second in pairs if first != second]
    joined.sort(key=lambda pair: abs(pair[1].top - pair[0].top))
    lanes: list[list[tuple[int, int]]] = []
    hidden = 0
    for first, second in joined:
        span = min(first.middle, second.middle), max(first.middle, second.middle)
        lane = next(
            (i for i, taken in enumerate(lanes) if all(span[1] < a or b < span[0] for a, b in taken)), len(lanes)
        )
        if lane == _MOST_LANES:
            hidden += 1
            continue
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append(span)
        down = 5 if second.top > first.top else -5
        x = _BOX_LEFT - 16 - lane * _LANE
        path = f"M{_BOX_LEFT} {first.middle + down} H{x + 5} Q{x} {first.middle + down} {x} {first.middle + 2 * down}"
        path += f" V{second.middle - 2 * down} Q{x} {second.middle - down} {x + 5} {second.middle - down} H{_BOX_LEFT}"
        yield f'<path class="arc" d="{path}" marker-end="url(#head)"/>'
    if hidden:
        yield _text(_MARGIN, placed[0].top - 6, f"{hidden} more arrows are not drawn", "small dim")


def _seal(placed: Sequence[_Placed]) -> Iterator[str]:
    last = [one for one in placed if one.row.stage is Stage.SEAL][-1]
    y = last.top + last.height + 19
    yield f'<line class="seal" x1="{_MARGIN}" y1="{y}" x2="{_WIDTH - _MARGIN}" y2="{y}"/>'
    yield _text(
        _WIDTH - _MARGIN, y - 7, "the seal: from here on the child has what its policy grants", "small refused", "end"
    )


def _text(x: int, y: int, text: str, kind: str, anchor: str = "") -> str:
    end = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{end}>{_safe(text)}</text>'


def _safe(text: str) -> str:
    return escape(printable(text), {'"': "&quot;"})


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
