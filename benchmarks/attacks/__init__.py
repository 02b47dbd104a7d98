"""``scripts/bench attacks``: what a hostile child can do to its host, in peers and in belljar.

Each attack runs in a host of its own, in a process of its own, for a dead host is an outcome too.
"""
