"""The system-call filter: groups of calls, compiling, caching, installing."""
