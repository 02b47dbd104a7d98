"""What is really enforced on a child: read from outside (`reading`), judged by layer and by operation, as a value."""

from __future__ import annotations

from .operations import Operation, OperationStatus, Verdict
from .report import LayerStatus, Protection
from .still import PAUSES, is_still, stopped
from .verify import planned, verify

__all__ = [
    "PAUSES",
    "LayerStatus",
    "Operation",
    "OperationStatus",
    "Protection",
    "Verdict",
    "is_still",
    "planned",
    "stopped",
    "verify",
]
