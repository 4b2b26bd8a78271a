"""Low-rank adapters of decoders. Holds no code of its own."""
