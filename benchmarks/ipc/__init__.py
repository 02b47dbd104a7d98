"""``scripts/bench ipc``: calls, streams and large data, belljar beside its peers, against the goals of the project."""
