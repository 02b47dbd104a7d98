"""Import a plugin from a zip in memory, when there are no files any more.

The bundle is a sealed memfd from the host. zipimport cannot read it after the seal, for it opens files by name, so
this finder serves the modules of the zip itself, with source lines for tracebacks and `inspect` (PEP 302
``get_source``), ``get_data``, and readers for `importlib.resources`. Bytecode is not read: source is compiled.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_loader
from types import CodeType, ModuleType

if sys.version_info >= (3, 12):
    from importlib.resources.abc import Traversable, TraversableResources
else:
    from importlib.abc import Traversable, TraversableResources

ROOT = "<bundle>/"


class BundleImporter(MetaPathFinder, InspectLoader):
    """Finds and loads the modules of one bundle, before any other finder."""

    def __init__(self, data: bytes) -> None:
        self.zip = zipfile.ZipFile(io.BytesIO(data))
        self.files = set(self.zip.namelist())

    def watch(self) -> None:
        """Stand first among the finders from now on."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of the bundle."""
        if self._member(fullname) is None:
            return None
        spec = spec_from_loader(
            fullname, self, origin=self.get_filename(fullname), is_package=self.is_package(fullname)
        )
        if spec is not None:
            spec.has_location = True
        return spec

    def _member(self, fullname: str) -> str | None:
        stem = fullname.replace(".", "/")
        return next((name for name in (f"{stem}/__init__.py", f"{stem}.py") if name in self.files), None)

    def _existing(self, fullname: str) -> str:
        member = self._member(fullname)
        if member is None:
            raise ImportError(f"no module {fullname} in the bundle", name=fullname)
        return member

    def get_filename(self, fullname: str) -> str:
        """Return the name that tracebacks show, such as ``<bundle>/thumbnailer.py``."""
        return ROOT + self._existing(fullname)

    def is_package(self, fullname: str) -> bool:
        """Return whether *fullname* has an ``__init__.py`` in the bundle."""
        return self._existing(fullname).endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        """Return the source text, for `linecache` and `inspect`."""
        return self.zip.read(self._existing(fullname)).decode()

    def get_code(self, fullname: str) -> CodeType:
        """Compile the module; `SyntaxError` as from compile()."""
        member = self._existing(fullname)
        code: CodeType = compile(self.zip.read(member), ROOT + member, "exec", dont_inherit=True)
        return code

    def get_data(self, path: str) -> bytes:
        """Return a file of the bundle by the path that `get_filename` and ``__file__`` start."""
        try:
            return self.zip.read(path.removeprefix(ROOT))
        except KeyError:
            raise FileNotFoundError(2, "no such file in the bundle", path) from None

    def get_resource_reader(self, fullname: str) -> TraversableResources | None:
        """Return the reader behind `importlib.resources.files`, for packages."""
        member = self._existing(fullname)
        return _Resources(self.zip, member.removesuffix("__init__.py")) if self.is_package(fullname) else None


class _Resources(TraversableResources):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._root = zipfile.Path(archive, folder)

    def files(self) -> Traversable:
        return self._root


def load_attribute(importer: BundleImporter, module_name: str, attribute: str) -> object:
    """Import *module_name* from the bundle and return its *attribute*.

    A module of the same name that is loaded already is left alone: the plugin must take another name.

    Raises:
        Whatever the module's code raises; ImportError and AttributeError with a sentence for people.
    """
    if module_name in sys.modules:
        raise ImportError(f"the module name {module_name!r} is taken by a loaded module; rename the plugin's file")
    importer.watch()
    spec = importer.find_spec(module_name)
    if spec is None:
        raise ImportError(f"no module {module_name!r} in the bundle")
    module = module_from_spec(spec)
    sys.modules[module_name] = module
    importer.exec_module(module)
    return attribute_of(module, attribute)


def attribute_of(module: ModuleType, attribute: str) -> object:
    """Return the *attribute* of a plugin's *module*; AttributeError with the classes that it has."""
    try:
        return getattr(module, attribute)
    except AttributeError:
        names = [name for name, value in vars(module).items() if isinstance(value, type) and name[:1] != "_"]
        raise AttributeError(
            f"{module.__name__}.py has no class {attribute!r}; it has {', '.join(names) or 'none'}"
        ) from None
