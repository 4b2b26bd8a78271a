"""The messages between the server and the engine's process. Knows nothing of models."""
