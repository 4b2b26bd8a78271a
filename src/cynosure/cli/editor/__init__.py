"""Fill in code where a terminal or an editor points. Knows nothing of how a model computes."""
