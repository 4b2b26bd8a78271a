"""Write adapters with PEFT itself, random and large enough to matter. Knows nothing of Cynosure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import peft
import torch
import transformers
from jaxtyping import Float
from torch import Tensor

#: How large the elements of a pair are: what it adds must be of the size of what it is added to.
STRENGTH = 0.2


@torch.no_grad()
def write_adapter(
    oracle: transformers.PreTrainedModel, folder: Path, seed: int = 1, **settings: object
) -> peft.PeftModel:
    """Save a random adapter of `oracle` in `folder`, and return PEFT's own model with it."""
    given = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    given |= {"fan_in_fan_out": isinstance(oracle, transformers.GPT2LMHeadModel)}
    adapted = peft.get_peft_model(deepcopy(oracle), peft.LoraConfig(**given)).eval()  # type: ignore[arg-type]
    dice = torch.Generator().manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=dice) * STRENGTH)
    adapted.save_pretrained(folder)
    return adapted


@torch.no_grad()
def logits(model: torch.nn.Module, prompt: Sequence[int]) -> Float[Tensor, "n vocab"]:
    """What PEFT's or transformers' model says after each token."""
    return model(torch.tensor([list(prompt)])).logits[0]


def num_pairs(adapted: peft.PeftModel) -> int:
    return sum(bool(re.search(r"\.lora_A\.", name)) for name, _ in adapted.named_parameters())
