"""What the two sides say: hello, credentials, file descriptors, frames, payloads."""
