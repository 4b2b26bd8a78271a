"""Turn what a model writes into the answers of each protocol. Knows nothing of routes."""
