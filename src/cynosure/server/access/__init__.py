"""Tell who calls and what they may use. Knows nothing of models."""
