"""Shared value types, errors and settings. No torch."""
