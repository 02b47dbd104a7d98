"""numpy imports sub-packages when an attribute of that name is first read, and parts of itself for files and text.

Its OpenBLAS starts a thread for each processor but one as numpy is imported, so that a zygote cannot share it where
there are several. (A fork ends them in both processes, for OpenBLAS sees to that, and starts them anew when needed.)
"""

from __future__ import annotations

import importlib
from io import BytesIO, StringIO
from typing import Any

_PARTS = (
    *("char", "ctypeslib", "dtypes", "exceptions", "fft", "lib.recfunctions", "lib.stride_tricks", "linalg", "ma"),
    *("polynomial", "random", "rec", "strings", "typing"),
)


def warm() -> None:
    """Compute, sort, format, write and read small arrays of each kind."""
    import numpy as np

    for part in _PARTS:
        importlib.import_module(f"numpy.{part}")
    square = np.arange(9.0).reshape(3, 3) + np.eye(3)
    np.linalg.inv(square) @ np.linalg.svd(square)[0]
    np.fft.rfft(square)
    np.einsum("ij,jk", square, square, optimize=True)
    np.random.default_rng(1).normal(size=3)
    for kind in (bool, "i4", "f2", "c16", "U3", "S3", "M8[s]", object):
        array = np.zeros(4, kind)
        str(array), repr(array), np.sort(array), array.astype(str)
    np.unique(square), np.percentile(square, 50), np.ma.masked_less(square, 2).mean()
    _files(square)


def _files(array: Any) -> None:
    import numpy as np

    file = BytesIO()
    np.savez_compressed(file, array=array)
    file.seek(0)
    with np.load(file) as archive:
        archive["array"]
    text = StringIO()
    np.savetxt(text, array)
    np.loadtxt(StringIO(text.getvalue()))
    np.genfromtxt(StringIO(text.getvalue()))
