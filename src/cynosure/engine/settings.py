"""Size an engine. Knows nothing of models, requests or files."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputError, UnknownOption

KV_CACHE_DTYPES = ("auto", "bfloat16", "float32", "int8")
MAX_SPECULATIVE_TOKENS = 64
MAX_TOKENS_AHEAD = 3
KERNELS = ("auto", "native", "torch")


@dataclass(frozen=True)
class EngineSettings:
    """What one engine may use.

    - `kv_cache_bytes`: memory for keys and values, reserved at the start.
    - `kv_cache_dtype`: what keys and values are kept in; `auto` is the model's dtype, `int8` halves bfloat16.
    - `block_size`: tokens of a page.
    - `max_num_seqs`, `max_num_batched_tokens`, `chunk_size`: what a step may hold (`engine/schedule.py`).
    - `kernels`: what computes linear layers: `native`, `torch`, or `auto` for the faster one that is here.
    - `num_speculative_tokens`: how many tokens a decoder guesses ahead at most (`engine/speculation.py`).
    - `max_tokens_ahead`: how many greedy tokens a step decodes beyond the next at most, where steps are short
      (`engine/run_ahead.py`).
    - `has_prefix_cache`: whether requests of one tenant share the pages of a common beginning.
    - `has_page_bounds`: whether requests may select pages (`engine/page_selection.py`), whose bounds take a
      part of `kv_cache_bytes`.
    - `image_cache_bytes`: memory for what encoders made of images, reserved where a model reads them.
    """

    kv_cache_bytes: int = 1 << 30
    kv_cache_dtype: str = "auto"
    block_size: int = 32
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 1024
    chunk_size: int = 256
    kernels: str = "auto"
    has_prefix_cache: bool = True
    num_speculative_tokens: int = 0
    max_tokens_ahead: int = 0
    has_page_bounds: bool = False
    image_cache_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UnknownOption: no cache is kept in such a dtype.
            InputError: a size below 1, or a step that can't hold a token of every sequence.
        """
        if self.kv_cache_dtype not in KV_CACHE_DTYPES:
            raise UnknownOption(
                f"kv_cache_dtype is {self.kv_cache_dtype!r}; choose one of {', '.join(KV_CACHE_DTYPES)}."
            )
        if self.kernels not in KERNELS:
            raise UnknownOption(f"kernels is {self.kernels!r}; choose one of {', '.join(KERNELS)}.")
        for name in (
            "kv_cache_bytes",
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "chunk_size",
            "image_cache_bytes",
        ):
            if vars(self)[name] < 1:
                raise InputError(f"{name} is {vars(self)[name]}; the limit is 1. Raise it.")
        if not 0 <= self.num_speculative_tokens <= MAX_SPECULATIVE_TOKENS:
            raise InputError(
                f"num_speculative_tokens is {self.num_speculative_tokens}; it may be 0 to "
                f"{MAX_SPECULATIVE_TOKENS}. Change it."
            )
        if not 0 <= self.max_tokens_ahead <= MAX_TOKENS_AHEAD:
            raise InputError(
                f"max_tokens_ahead is {self.max_tokens_ahead}; it may be 0 to {MAX_TOKENS_AHEAD}. Change it."
            )
        if self.max_num_seqs > self.max_num_batched_tokens:
            raise InputError(
                f"max_num_seqs is {self.max_num_seqs}; the limit is max_num_batched_tokens, "
                f"{self.max_num_batched_tokens}. Lower it."
            )
