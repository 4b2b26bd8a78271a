"""Tell whether what is attended to has moved from a reference. Knows nothing of requests or files."""
