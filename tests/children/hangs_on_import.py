"""A module whose import never comes back."""

from __future__ import annotations

import threading

threading.Event().wait()
