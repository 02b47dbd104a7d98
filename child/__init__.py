"""The side inside the sealed process: staged start-up, seal, plugin loading, dispatch."""
