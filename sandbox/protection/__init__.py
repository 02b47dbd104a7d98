"""What is really enforced on a child: read from outside (`reading`), judged by layer and by operation, as a value."""

from __future__ import annotations

from .operations import Operation, OperationStatus, Verdict
from .report import LayerStatus, Protection
from .verify import planned, verify

__all__ = ["LayerStatus", "Operation", "OperationStatus", "Protection", "Verdict", "planned", "verify"]
