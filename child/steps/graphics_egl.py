"""The step ``graphics-egl``: an OpenGL context that draws into memory, without window or display server.

Hands on a `moderngl.Context`, current in the child's main thread, in which the plugin is called too. On a machine with
a GPU that the child's user may open it is the GPU's, else it is llvmpipe's, Mesa's renderer on the processor.

Facts (Mesa 22.3.6, glcontext 3.1.0, moderngl 5.13.0, seen with strace; tests/child/steps keeps them):

- EGL finds its driver at run time: glvnd reads /usr/share/glvnd, Mesa reads /usr/share/drirc.d and loads some forty
  libraries; on a GPU it also opens /dev/dri. After the seal none of this can be opened, and there is no context.
- llvmpipe starts two threads for each processor, at most 16 of each, one of them named ``llvmpipe-N`` and the other not
  at all, so that it inherits the name of this step. It leaves no fd, and memory that is writable and executable.
- Mesa looks for ~/.drirc, and for its shader cache in $XDG_CACHE_HOME, in ~/.cache and in the home that passwd names.
  A cache that other processes write is no input for a child that is sealed next, so all of it is switched off.
- glcontext looks for libraries by running ldconfig, or gcc, unless it is given their names. libEGL is enough: it also
  hands out OpenGL's functions, and libGL would load X11.
- A fork copies one thread only, so a zygote cannot share this step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import prctl

from ..step import StepError, early_init, require_after_seal

LIBRARY: Final = "libEGL.so.1"

_ENVIRONMENT: Final = {
    "HOME": None,  # Mesa asks for no other home when it looks for .drirc
    "MESA_SHADER_CACHE_DISABLE": "true",
    "__GL_SHADER_DISK_CACHE": "0",  # the same of NVIDIA's driver
}


@early_init(
    needs=["files", "devices", "threads", "executable-memory"],
    needs_after_seal=["graphics-driver"],
    leaves={
        # Those of Mesa's queues for GPUs have the program's name, a colon and their own: python:gdrv0.
        "threads": ["llvmpipe-*", "graphics-egl", "*:*"],
        "fds": ["device", "file"],
        "executable_memory": True,
    },
    deadline="20s",
)
def graphics_egl(version: int = 330, device: int = 0) -> Any:
    """Make a context of at least OpenGL *version* (330 is 3.3) on the *device* of that number, GPUs first.

    Raises:
        StepError: there is no driver, or none that can do it; or the policy lacks what llvmpipe needs to draw.
    """
    try:
        import moderngl
    except ImportError as error:
        raise StepError(f"could not load moderngl: {error} (install the extra belljar[graphics])") from error
    settings: dict[str, Any] = {"backend": "egl", "libgl": LIBRARY, "libegl": LIBRARY, "device_index": device}
    with _environment(), _thread_name("graphics-egl"):
        try:
            context = moderngl.create_context(require=version, standalone=True, **settings)
        except Exception as error:  # glcontext has no class of its own for its errors
            text = f"could not make a context of OpenGL {version // 100}.{version // 10 % 10}: {error}"
            raise StepError(f"{text} ({_remedy(str(error))})") from error
    if "llvmpipe" in context.info["GL_RENDERER"]:
        require_after_seal("executable-memory", "llvmpipe makes machine code as it draws, and crashes if it cannot")
    return context


def _remedy(error: str) -> str:
    """Return what to do about what glcontext says."""
    if "not loaded" in error:
        return "it cannot be opened: install libegl1; after the seal no library can be"
    if "found 0 devices" in error:
        return "no EGL driver was found: install libegl-mesa0"
    if "requested device" in error:
        return "choose a smaller option device"
    if "eglInitialize" in error:
        path = os.environ.get("LIBGL_DRIVERS_PATH")
        found = f"LIBGL_DRIVERS_PATH is {path!r}: unset it or mend it" if path else "install libgl1-mesa-dri"
        return f"EGL found no driver for the device: {found}"
    return "the driver cannot do that: choose a smaller option version"


@contextmanager
def _environment() -> Iterator[None]:
    """Switch off what drivers read for a user. Drivers look once, when a context is made; all is as it was after."""
    before = {name: os.environ.pop(name, None) for name in _ENVIRONMENT}
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _thread_name(name: str) -> Iterator[None]:
    """Name this thread, so that threads without a name, which have that of their starter, say where they are from."""
    before = prctl.get_name()
    prctl.set_name(name)
    try:
        yield
    finally:
        prctl.set_name(before)
