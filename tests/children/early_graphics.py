"""Steps of early init that make a context, without the care that ``graphics-egl`` takes."""

from __future__ import annotations

from typing import Any

import moderngl

PLAIN: dict[str, Any] = {"standalone": True, "backend": "egl"}
BY_NAME: dict[str, Any] = {"libgl": "libEGL.so.1", "libegl": "libEGL.so.1"}


def unchecked() -> Any:
    """Without a look at what the policy allows once sealed."""
    return moderngl.create_context(**PLAIN, **BY_NAME)


def plain() -> Any:
    """As one would write it at first: libraries are looked for, and the driver reads what it likes."""
    return moderngl.create_context(**PLAIN)
