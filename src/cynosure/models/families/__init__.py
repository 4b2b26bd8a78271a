"""Hold one file a family of architectures: how its configs and names become ours. Hands on nothing."""
