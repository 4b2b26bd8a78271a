"""Ways to compute one source's attention. Each says what it can't do, and why."""
