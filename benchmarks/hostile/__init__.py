"""A million hostile messages: what a sealed child can do to its host by saying all there is, at full speed.

``scripts/bench hostile`` runs it and prints what became of each message; docs/attacks-on-peers.md has the result.
"""
