"""Process types, written in Python or TOML and checked against the file system; every mistake is one sentence."""
