"""docs/attacks.md is what the code would write: the same attacks, the same backends, and no escape that is denied."""

from __future__ import annotations

from belljar.sandbox.protection import Operation
from tests.children.intruder import ATTACKS

from .matrix import LAYERS, PAGE, REPORT
from .runs import backends

Table = dict[str, list[str]]


def tables() -> dict[str, Table]:
    """Return each table of the page by its heading: the first cell of a row -> the other cells."""
    found: dict[str, Table] = {}
    heading = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| ") and not line.startswith("| ---"):
            first, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            found.setdefault(heading, {})[first.removesuffix(" #")] = cells
    return found


def cells_of(name: str) -> dict[str, str]:
    """Return what the page says of an attack, by backend."""
    attack = ATTACKS[name]
    table = tables()[attack.operation.capitalize() if attack.operation else LAYERS]
    return dict(zip(backends(), table[name][-len(backends()) :], strict=True))


def test_the_page_has_all_attacks_and_backends() -> None:
    """Each attack has a row in the table of its operation, and there is no other row; each table has all backends."""
    found = tables()
    for operation in (*Operation, None):
        heading = operation.value.capitalize() if operation else LAYERS
        expected = {name for name, attack in ATTACKS.items() if attack.operation == (operation or "")}
        assert set(found[heading]) - {"attack", REPORT} == expected, f"{heading}: run scripts/attacks"
        assert tuple(found[heading]["attack"][-len(backends()) :]) == backends()


def test_every_cell_says_what_came_of_the_attack() -> None:
    """No attack was left out under any backend."""
    words = ("escaped", "refused (", "no effect", "no child")
    for name in ATTACKS:
        for cell in cells_of(name).values():
            assert all(part.removeprefix("root: ").startswith(words) for part in cell.split("; ")), f"{name}: {cell}"


def test_nothing_that_is_enforced_is_escaped() -> None:
    """A cell below "enforced" never says escaped, and no confining backend lets what its layers must stop escape."""
    for name, attack in ATTACKS.items():
        for backend, cell in cells_of(name).items():
            if attack.operation:
                said = tables()[attack.operation.capitalize()][REPORT][backends().index(backend)]
                assert said != "enforced" or "escaped" not in cell, f"{name}, {backend}: {cell}"
            elif backend != "none":
                assert "escaped" not in cell.replace("root: escaped", "" if attack.not_root else "root: escaped")


def test_what_is_not_enforced_is_shown() -> None:
    """Below anything but "enforced" at least one cell of the table says escaped."""
    for operation in Operation:
        table = tables()[operation.value.capitalize()]
        for index, said in enumerate(table[REPORT]):
            shown = any("escaped" in cells[index] for name, cells in table.items() if name != REPORT)
            assert said == "enforced" or shown, f"{operation}, {backends()[index]}: {said}"
