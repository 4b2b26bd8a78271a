"""Stand in for models that another process holds. Knows nothing of HTTP."""
