"""The command line, one module a command, and what its reports look like."""
