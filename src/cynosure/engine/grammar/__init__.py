"""Compile constraints and say which tokens may follow. Knows nothing of models."""
