"""The ioctls by which a program renders on a GPU: a list, in numbers of include/uapi/drm/drm.h of the kernel.

A DRM node answers to many more: setting the modes of screens, becoming master, authenticating others, and the ways of
before GEM. Listed are those that the kernel also answers on a *render* node (DRM_RENDER_ALLOW in its drm_ioctl.c), but
for one that only names a client for debuggers.

What a filter cannot say: on which fd a call is made, and which driver the numbers of `DRIVER` belong to. Each driver
gives them its own meaning, some of them for card nodes (/dev/dri/card0) only, and reads structures behind pointers:
kernel code that few have read. Nor does DRM look at the type of an ioctl, only at the number in its lowest byte
(drm_ioctl() in the same file); the type is compared for the sake of all other devices.
"""

from __future__ import annotations

from typing import Final

from .answers import Bits

_TYPE: Final = ord("d") << 8
_TYPE_AND_NUMBER: Final = 0xFFFF  # above them stand the size and direction of the structure: as the driver likes

GENERIC: Final = {
    "VERSION": 0x00,
    "GEM_CLOSE": 0x09,
    "GET_CAP": 0x0C,
    "PRIME_HANDLE_TO_FD": 0x2D,
    "PRIME_FD_TO_HANDLE": 0x2E,
    "SYNCOBJ_CREATE": 0xBF,
    "SYNCOBJ_DESTROY": 0xC0,
    "SYNCOBJ_HANDLE_TO_FD": 0xC1,
    "SYNCOBJ_FD_TO_HANDLE": 0xC2,
    "SYNCOBJ_WAIT": 0xC3,
    "SYNCOBJ_RESET": 0xC4,
    "SYNCOBJ_SIGNAL": 0xC5,
    "SYNCOBJ_TIMELINE_WAIT": 0xCA,
    "SYNCOBJ_QUERY": 0xCB,
    "SYNCOBJ_TRANSFER": 0xCC,
    "SYNCOBJ_TIMELINE_SIGNAL": 0xCD,
    "SYNCOBJ_EVENTFD": 0xCF,
}
"""The calls that every driver has, by the name after ``DRM_IOCTL_``."""

DRIVER: Final = range(0x40, 0xA0)
"""DRM_COMMAND_BASE to DRM_COMMAND_END: the calls of the driver, which filters cannot tell from one another."""

_DRIVER: Final = {"0x40-0x7f": (0xFFC0, 0x40), "0x80-0x9f": (0xFFE0, 0x80)}  # that range, as masks and their values

CASES: Final = (
    *((Bits(1, _TYPE_AND_NUMBER, _TYPE | number),) for number in GENERIC.values()),
    *((Bits(1, mask, _TYPE | first),) for mask, first in _DRIVER.values()),
)
"""The cases of ioctl(2) in `rules`."""

MASKS: Final = (_TYPE_AND_NUMBER, *(mask for mask, _ in _DRIVER.values()))
NAMES: Final = {
    **{_TYPE | number: f"DRM_{name}" for name, number in GENERIC.items()},
    **{_TYPE | first: f"DRM_DRIVER_{span}" for span, (_, first) in _DRIVER.items()},
}
"""The masks of `CASES`, and the names of their values, for people."""
