"""A plugin for arrays and images: says where they lie, and gives them back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Plug:
    """Never copies what it is given but to give it back."""

    def __init__(self) -> None:
        self.kept: Any = None
        self.kept_image: Any = None

    def echo(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def where(self, array: NDArray[Any]) -> tuple[int, int, bool]:
        """Return where *array* lies, how many bytes it has, and whether it can be written."""
        return array.__array_interface__["data"][0], array.nbytes, array.flags.writeable

    def where_sliced(self, array: NDArray[Any]) -> bool:
        """Return whether what is made of *array* without a copy lies where it does."""
        return np.shares_memory(array, array[::2]) and np.shares_memory(array, np.asarray(array.view(np.uint8)))

    def keeps_image(self, image: Image.Image) -> None:
        self.kept_image = image

    def keeps(self, array: NDArray[Any]) -> None:
        self.kept = array[1:]

    def scale(self, array: NDArray[np.float32], by: float) -> NDArray[np.float32]:
        return array * np.float32(by)

    def negative(self, image: Image.Image) -> Image.Image:
        return Image.eval(image, lambda value: 255 - value)

    def frames(self, count: int, side: int) -> Iterator[NDArray[np.uint8]]:
        for number in range(count):
            yield np.full((side, side), number, np.uint8)
