"""Answer HTTP requests. Knows nothing of how a model computes."""
