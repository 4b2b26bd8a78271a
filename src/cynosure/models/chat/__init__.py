"""Turn messages into prompts and a model's text into messages. Knows nothing of tensors."""
