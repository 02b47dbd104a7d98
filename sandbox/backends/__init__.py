"""One file per way to confine."""
