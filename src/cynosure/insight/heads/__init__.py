"""Find out which heads of a model tell what, and keep it in a profile. Knows nothing of requests."""
