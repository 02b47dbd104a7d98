"""The warm-ups of the step ``warm-imports``, a file for each library: ``warm()`` takes all its ways once."""
