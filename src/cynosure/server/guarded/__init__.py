"""Read texts before a model does and answers before they leave. Knows nothing of HTTP."""
