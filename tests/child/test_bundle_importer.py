"""Importing from a bundle in memory: everything that a module on disk would have, and nothing beside it."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import io
import sys
import traceback
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from belljar.child.bundle import BundleImporter, load_attribute

FILES = {
    "bundled/__init__.py": "from .part import Part\n",
    "bundled/part.py": "class Part:\n    def fails(self):\n        raise ValueError('here')  # the line\n",
    "bundled/data/words.txt": "words",
    "beside.py": "from bundled.part import Part\n\nclass Beside(Part): pass\n",
}


@pytest.fixture
def importer() -> Iterator[BundleImporter]:
    """An importer over FILES; what it imported is forgotten afterwards."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        for name, text in FILES.items():
            bundle.writestr(name, text)
    made = BundleImporter(archive.getvalue())
    finders = list(sys.meta_path)
    yield made
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.split(".")[0] in ("bundled", "beside")]:
        del sys.modules[name]


def test_packages_and_modules_import_each_other(importer: BundleImporter) -> None:
    """A plugin finds its own package and the modules beside it."""
    beside = load_attribute(importer, "beside", "Beside")
    assert inspect.isclass(beside)
    assert beside.__mro__[1].__module__ == "bundled.part"


def test_tracebacks_and_inspect_show_source_lines(importer: BundleImporter) -> None:
    """A traceback has the plugin's line, although there is no file."""
    part: Any = load_attribute(importer, "bundled", "Part")
    assert "raise ValueError('here')" in inspect.getsource(part)
    with pytest.raises(ValueError, match="here") as caught:
        part().fails()
    text = "".join(traceback.format_exception(caught.value))
    assert 'File "<bundle>/bundled/part.py", line 3' in text
    assert "# the line" in text


def test_resources_are_found(importer: BundleImporter) -> None:
    """`importlib.resources` and ``__loader__.get_data`` read the bundle's files."""
    load_attribute(importer, "bundled", "Part")
    assert importlib.resources.files("bundled").joinpath("data/words.txt").read_text() == "words"
    assert importer.get_data("<bundle>/bundled/data/words.txt") == b"words"
    with pytest.raises(FileNotFoundError):
        importer.get_data("<bundle>/missing")


def test_a_taken_name_is_refused(importer: BundleImporter) -> None:
    """A plugin named like a loaded module does not replace it, and is told to take another name."""
    importlib.import_module("json")
    with pytest.raises(ImportError, match="'json' is taken"):
        load_attribute(importer, "json", "Part")


def test_a_missing_class_is_answered_with_those_that_are_there(importer: BundleImporter) -> None:
    """The error names the classes of the module."""
    with pytest.raises(AttributeError, match="no class 'Besides'; it has Part, Beside"):
        load_attribute(importer, "beside", "Besides")
