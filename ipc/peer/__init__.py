"""Two equals on a channel: each calls what the other offers, streams, cancels and pushes back.

`base.Peer` holds the rules, `blocking.BlockingPeer` and `asynchronous.AsyncPeer` the two ways to wait.
"""
