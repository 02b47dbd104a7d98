"""``python -I -m belljar.child``: started by the guard, to be a child, a zygote, or a zygote's helper.

exec CONTROL_FD BIRTH_FD  one child, by exec; its birth stands in a sealed memfd
zygote REQUESTS_FD        the helper that starts a zygote with namespaces
plain-zygote REQUESTS_FD  a zygote without any
"""

from __future__ import annotations

import sys

import msgspec

from ..ipc.payload import read_sealed
from ..sandbox.base import Birth
from ..sandbox.launch.forked import MAX_BIRTH


def main(arguments: list[str]) -> None:
    """Be what *arguments* say; does not return."""
    from . import early_init, stages

    if arguments[0] == "zygote":
        from ..sandbox.launch.helper import run_helper
        from ..sandbox.launch.zygote import Runtime

        run_helper(int(arguments[1]), Runtime(prepare_zygote, stages.run_isolated, early_init.run_shared))
    if arguments[0] == "plain-zygote":
        from ..sandbox.launch.plain_zygote import run_plain_zygote
        from ..sandbox.launch.zygote import Runtime

        run_plain_zygote(int(arguments[1]), Runtime(prepare_zygote, stages.run_forked, early_init.run_shared))
    birth = msgspec.json.decode(read_sealed(int(arguments[2]), MAX_BIRTH), type=Birth)
    stages.run_executed(birth, int(arguments[1]))


def prepare_zygote() -> None:
    """Load what every child of the zygote would load otherwise, each for itself."""
    from ..sandbox.confine import reset_signals
    from . import warm

    reset_signals()
    warm.standard_library()
    warm.own_runtime()


if __name__ == "__main__":
    main(sys.argv[1:])
