"""Turn text into token ids and back. Knows nothing of models."""
