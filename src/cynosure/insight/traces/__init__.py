"""Lay out what is kept of an answer's attention, by how private it is. Knows nothing of files."""
