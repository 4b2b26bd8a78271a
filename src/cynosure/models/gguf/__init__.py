"""Read GGUF, the single-file checkpoints of llama.cpp. Knows nothing of graphs.

`header` reads what a file says of itself, strictly; `config`, `vocabulary` and `advice` put that into the
words of a checkpoint's folder; `tensors` names the weights as the folder would; `blocks` decodes them. All
but the last two are free of torch.
"""

from cynosure.models.gguf.header import SUFFIX, GgufFile, is_gguf, read_gguf

__all__ = ["SUFFIX", "GgufFile", "is_gguf", "read_gguf"]
