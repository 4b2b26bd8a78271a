"""Hold one file of routes per API family. Computes nothing."""
