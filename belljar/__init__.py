"""belljar: parts of an application in sealed child processes that the host has verified."""
