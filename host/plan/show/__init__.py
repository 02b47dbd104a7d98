"""What ``belljar plan`` shows: a plan as rows, as a table and JSON, as a picture, and held against one launch."""
