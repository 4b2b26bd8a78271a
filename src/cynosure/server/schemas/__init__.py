"""Hold what travels on the wire, one file per API family. Computes nothing."""
