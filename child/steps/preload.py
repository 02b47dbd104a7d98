"""The step ``preload``: import modules while their files can be read.

Facts: an import reads files and, for an extension, maps its library executable; after the seal both are refused, and
only what stands in the plugin's own bundle can be imported. A module that the zygote has imported is shared by all its
children, page by page, and costs them nothing (``scripts/bench graphics``). One that starts a thread as it is imported,
as numpy's OpenBLAS does, cannot be shared and is left to each child: a fork copies one thread only.

The key ``preload`` of a process type is this step, once for each module, before all others. Most modules start no
thread; for one that does, write ``{ step = "preload", modules = ["numpy"], leaves = { threads = ["*"] } }``.
"""

from __future__ import annotations

import importlib

from ..step import early_init


@early_init(needs=["files", "executable-memory"], shared=True)
def preload(modules: tuple[str, ...]) -> None:
    """Import *modules* in their order."""
    for module in modules:
        importlib.import_module(module)
