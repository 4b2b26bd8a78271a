"""Serve encoder-decoders, a step at a time. Knows nothing of decoders' pages."""
