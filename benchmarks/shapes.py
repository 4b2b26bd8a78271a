"""Write random-weight checkpoints of real shapes, with a tokenizer that every peer reads. Times nothing.

    python benchmarks/shapes.py qwen2.5-0.5b FOLDER

The tokenizer is a byte-level BPE with hardly a merge: a prompt of n ASCII characters is n tokens, in every
program alike. What random weights choose is mostly filler words, so that streams have text in them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

#: Weights are drawn with this standard deviation, as the families' own recipes do.
INIT_STD = 0.02

SEED = 0

#: What is written when all else is there.
LAST_FILE = "generation_config.json"


@dataclass(frozen=True)
class Shape:
    """The sizes of a released model, in the words of its `config.json`."""

    architecture: str
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rope_theta: float
    max_position_embeddings: int
    has_qkv_bias: bool = False
    rms_norm_eps: float = 1e-5

    @property
    def config(self) -> dict[str, object]:
        """What `config.json` holds."""
        same = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "rope_theta",
            "max_position_embeddings",
            "rms_norm_eps",
        )
        return {name: vars(self)[name] for name in same} | {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "bos_token_id": self.end_id,
            "eos_token_id": self.end_id,
        }

    @property
    def end_id(self) -> int:
        """The end token: the last of the vocabulary."""
        return self.vocab_size - 1

    @property
    def num_weights(self) -> int:
        """Numbers in the checkpoint; the head shares the embedding's."""
        return sum(math.prod(size) for _, size in tensor_sizes(self))


SHAPES: Mapping[str, Shape] = {
    # No model's: for whatever needs a thousand answers and no weight in them.
    "toy": Shape("LlamaForCausalLM", "llama", 512, 64, 128, 2, 4, 2, 16, 10000.0, 8192),
    "smollm2-135m": Shape(
        "LlamaForCausalLM", "llama", 49152, 576, 1536, 30, 9, 3, 64, 100000.0, 8192
    ),
    "qwen2.5-0.5b": Shape(
        "Qwen2ForCausalLM", "qwen2", 151936, 896, 4864, 24, 14, 2, 64, 1e6, 32768, True, 1e-6
    ),
    "llama-3.2-1b": Shape(
        "LlamaForCausalLM", "llama", 128256, 2048, 8192, 16, 32, 8, 64, 500000.0, 131072
    ),
}  # fmt: skip


def tensor_sizes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and sizes of all tensors, as the families store them."""
    width, inner = shape.hidden_size, shape.intermediate_size
    rows = {"q": shape.num_attention_heads, "k": shape.num_key_value_heads, "v": shape.num_key_value_heads}
    yield "model.embed_tokens.weight", (shape.vocab_size, width)
    yield "model.norm.weight", (width,)
    for layer in range(shape.num_hidden_layers):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (width,)
        yield f"{at}.post_attention_layernorm.weight", (width,)
        for name, heads in rows.items():
            yield f"{at}.self_attn.{name}_proj.weight", (heads * shape.head_dim, width)
            if shape.has_qkv_bias:
                yield f"{at}.self_attn.{name}_proj.bias", (heads * shape.head_dim,)
        yield f"{at}.self_attn.o_proj.weight", (width, shape.num_attention_heads * shape.head_dim)
        yield f"{at}.mlp.gate_proj.weight", (inner, width)
        yield f"{at}.mlp.up_proj.weight", (inner, width)
        yield f"{at}.mlp.down_proj.weight", (width, inner)


def write_checkpoint(shape: Shape, folder: Path) -> Path:
    """Write config, weights in bfloat16 and tokenizer; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = torch.Generator().manual_seed(SEED)
    tensors: dict[str, Tensor] = {}
    for name, size in tensor_sizes(shape):
        drawn = torch.empty(size, dtype=torch.bfloat16).normal_(0.0, INIT_STD, generator=dice)
        tensors[name] = drawn + 1 if "norm" in name else drawn
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(shape.config, indent=2))
    write_tokenizer(shape, folder)
    return folder


def words_of(shape: Shape) -> list[str]:
    """The vocabulary in order: bytes, one merge, filler words, the end token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, "ĠĠ"]
    words += [f"Ġ{spelled(number)}" for number in range(shape.vocab_size - len(words) - 1)]
    return [*words, "<|end|>"]


def spelled(number: int) -> str:
    """A word of letters, as most text is: the guard of a server looks at every digit."""
    return "".join("aeiounrstl"[int(digit)] for digit in str(number))


def write_tokenizer(shape: Shape, folder: Path) -> None:
    """Write `tokenizer.json` and what lies beside it."""
    vocabulary = {word: token_id for token_id, word in enumerate(words_of(shape))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "Ġ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "bos_token": None,
        "model_max_length": shape.max_position_embeddings,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (folder / LAST_FILE).write_text(json.dumps({"eos_token_id": shape.end_id}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    write_checkpoint(shape, arguments.folder)
    print(f"{arguments.folder}: {shape.num_weights / 1e6:.0f} million weights of {arguments.shape}")


if __name__ == "__main__":
    main()
