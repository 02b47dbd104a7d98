"""Large payloads in memory that both sides map: pieces of arenas, and what a receiver holds them by."""
