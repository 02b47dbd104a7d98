"""How datagrams travel between host and child: `base` says what a channel is, and each transport has a file."""
