"""Say which sentence of a quoted passage an answer is cited from, by attention and without it.

    python -m evals.insight_docs [--reference FOLDER] [--ranker FOLDER] [--write]

The documentation questions are asked as a user asks them. Of those whose right quote has several sentences,
some of which answer (gold strings by hand, `evals/data/docs_answers_test.jsonl`), each way names one
sentence:

- `learned`: the ranker's heads, weighed. The weights are fitted on the development questions so that they
  tell what the ranker's answer loses without a sentence (attribution in the manner of AT2, arXiv 2504.13752);
- `mean`, `last_layer`: the same shares of attention, averaged over all heads, or over the last layer's;
- `embedder`: the last layer of the embedder, which never sees the question;
- `highlight`: what the product shows, the ranker asked about each sentence by itself;
- `ablation`: the ranker asked without each sentence in turn, which `learned` foretells at one reading;
- `words`: most words of the question; `first`: the first sentence.

`spearman` is the rank correlation of each way with `ablation` over the sentences of a quote, the mean over
quotes. `shuffled` is the control: `learned` with its weights dealt to other heads. How often nothing is
quoted, rightly and wrongly, is in results/answers.json.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from cynosure.attention import Watch
from cynosure.cli.local_ranker import LocalRanker
from cynosure.cli.python_docs import PythonDocs
from cynosure.evaluate.results import write_result
from cynosure.insight.rank_correlation import rank_correlation
from cynosure.models.batch import Batch
from cynosure.models.cross_encoder import CrossEncoder, load_cross_encoder
from cynosure.models.embedder import Embedder
from cynosure.models.minilm import load_minilm
from cynosure.pack import RANKER, pack_folder
from cynosure.retrieval.sentences import sentences
from evals.answers import NUM_QUOTES, names_of
from evals.answers_data import answers, read_contained
from evals.docs_search import index_of, open_search
from evals.docs_search_arguments import (
    add_index_arguments,
    add_ranker_arguments,
    ranker_of,
    reference_of,
)
from evals.docs_search_data import read_questions

LABEL = "answers"
#: Fixed before anything was looked at.
RIDGE = 1.0
SEED = 0

Scores = Float[np.ndarray, " sentences"]


@dataclass(frozen=True)
class Case:
    """A question, the quote of a right object, its sentences, those that answer, and the one shown."""

    question: str
    text: str
    spans: tuple[tuple[int, int], ...]
    gold: frozenset[int]
    shown: int


def cases_of(docs: PythonDocs, split: str, names: dict[str, frozenset[str]]) -> list[Case]:
    """The first right quote of each question that has several sentences, some of which answer."""
    contained = read_contained(split)
    found = []
    for question in read_questions("questions", split):
        for quote in docs.ask(question.question, NUM_QUOTES).quotes:
            if not names[quote.object] & set(question.answers) or quote.highlight is None:
                continue
            spans = tuple(sentences(quote.text))
            needed = contained[question.id]
            gold = {place for place, (a, b) in enumerate(spans) if answers(quote.text[a:b], needed)}
            if 0 < len(gold) < len(spans):
                at = quote.highlight.start
                shown = max(place for place, (a, _) in enumerate(spans) if a <= at or place == 0)
                found.append(Case(question.question, quote.text, spans, frozenset(gold), shown))
            break
    return found


class Witness:
    """A cross-encoder, looked at head by head, and asked without sentences."""

    def __init__(self, encoder: CrossEncoder) -> None:
        self._encoder = encoder
        self._label = list(encoder.labels).index(LABEL)
        self.num_layers = len(encoder.graph.layers)

    @torch.inference_mode()
    def shares(self, case: Case) -> Float[np.ndarray, "heads sentences"]:
        """What each head gives each sentence from the question and the first token, layer after layer."""
        encoder = self._encoder
        encoding = encoder.tokenizer.encode_pair(
            case.question, case.text, max_length=encoder.max_tokens, truncate=False
        )
        owners = [
            1 + max(place for place, (a, _) in enumerate(case.spans) if a <= start or place == 0)
            if of == 1
            else 0
            for of, (start, _) in zip(encoding.sequences, encoding.offsets, strict=True)
        ]
        types = [encoding.type_ids] if encoder.graph.spec.embeddings.num_types > 1 else None
        batch = Batch.pack([encoding.ids], type_ids=types, segments=[owners])
        asking = [0, *(place for place, of in enumerate(encoding.sequences) if of == 0)]
        states = encoder.graph(batch, watch=Watch(), watched_layers=range(self.num_layers)).states
        rows = [states[layer].shares[asking].mean(0) for layer in range(self.num_layers)]
        told = torch.cat(rows).float().numpy()[:, 1:]
        # A last sentence whose tokens are none of its own, as of marks alone, has a column all the same.
        return np.pad(told, ((0, 0), (0, len(case.spans) - told.shape[1]))).astype(np.float64)

    def drops(self, case: Case) -> Scores:
        """What the ranker's logit loses without each sentence."""
        texts = [case.text, *(case.text[:a] + case.text[b:] for a, b in case.spans)]
        readings = [(case.question, text) for text in texts]
        logits = np.concatenate(
            [self._encoder.run(self._encoder.read(readings[n : n + 16])) for n in range(0, len(readings), 16)]
        )
        found = logits[:, self._label].astype(np.float64)
        return found[0] - found[1:]


def fitted(shares: Sequence[np.ndarray], drops: Sequence[Scores]) -> Float[np.ndarray, " heads"]:
    """Weights of heads that tell drops, both centred within each quote: only who is ahead of whom counts."""
    x = np.concatenate([one - one.mean(1, keepdims=True) for one in shares], axis=1).T
    y = np.concatenate([one - one.mean() for one in drops])
    scale = x.std(0) + 1e-9
    x = x / scale
    weights = np.linalg.solve(x.T @ x + RIDGE * len(y) * np.eye(x.shape[1]) / 100, x.T @ y)
    return weights / scale


def by_words(case: Case) -> Scores:
    """How many words of the question a sentence has."""
    asked = set(re.findall(r"\w+", case.question.casefold()))
    return np.array([len(asked & set(re.findall(r"\w+", case.text[a:b].casefold()))) for a, b in case.spans])


def by_embedder(embedder: Embedder, case: Case) -> Scores:
    """What the embedder's last layer attends to, which has not seen the question."""
    seen = embedder.attended(case.text)
    scores = np.zeros(len(case.spans))
    for (start, _), weight in zip(seen.offsets, seen.weights, strict=True):
        scores[max(place for place, (a, _) in enumerate(case.spans) if a <= start or place == 0)] += weight
    return scores


def shown(case: Case) -> Scores:
    """The sentence that the product highlights."""
    return np.eye(len(case.spans))[case.shown]


def ways_of(
    encoder: CrossEncoder, embedder: Embedder, fit: Sequence[Case]
) -> dict[str, Callable[[Case], Scores]]:
    """Each way to score the sentences of a quote."""
    witness = Witness(encoder)
    weights = fitted([witness.shares(case) for case in fit], [witness.drops(case) for case in fit])
    dealt = np.random.default_rng(SEED).permutation(weights)
    last = len(weights) * (witness.num_layers - 1) // witness.num_layers
    return {
        "learned": lambda case: weights @ witness.shares(case),
        "mean": lambda case: witness.shares(case).mean(0),
        "last_layer": lambda case: witness.shares(case)[last:].mean(0),
        "embedder": lambda case: by_embedder(embedder, case),
        "highlight": shown,
        "ablation": witness.drops,
        "words": by_words,
        "first": lambda case: -np.arange(len(case.spans), dtype=float),
        "shuffled": lambda case: dealt @ witness.shares(case),
    }


def evaluate(docs: PythonDocs, names: dict[str, frozenset[str]], embedder: Embedder) -> dict[str, object]:
    """All figures; the development questions fit, the test questions judge."""
    fit, test = cases_of(docs, "dev", names), cases_of(docs, "test", names)
    ways = ways_of(load_cross_encoder(pack_folder(RANKER), dtype="float32"), embedder, fit)
    by_ablation = [ways["ablation"](case) for case in test]
    table = {}
    for name, way in ways.items():
        scores = [way(case) for case in test]
        table[name] = {
            "top1": float(
                np.mean([int(np.argmax(one)) in case.gold for one, case in zip(scores, test, strict=True)])
            ),
            "spearman": float(
                np.mean(
                    [
                        rank_correlation(a.tolist(), b.tolist()) or 0.0
                        for a, b in zip(scores, by_ablation, strict=True)
                    ]
                )
            ),
        }
    chance = float(np.mean([len(case.gold) / len(case.spans) for case in test]))
    return {
        "fit_questions": len(fit),
        "test_questions": len(test),
        "sentences": sum(len(case.spans) for case in test),
        "chance_top1": chance,
        "ways": table,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/insight_docs.json")
    parser.add_argument("--threads", type=int, default=2)
    add_index_arguments(parser)
    add_ranker_arguments(parser)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    embedder, reference = load_minilm(), reference_of(chosen)
    ranker = ranker_of(chosen)
    if not isinstance(ranker, LocalRanker):
        raise SystemExit("there is no ranker, whose attention this is about.")
    search = open_search(index_of(chosen.indexes, reference), embedder, reference, ranker)
    names = {entry.name: names_of(entry) for entry in reversed(search.store.contents.entries)}
    metrics = evaluate(PythonDocs(search, embedder, ranker=ranker), names, embedder)
    print(
        f"{metrics['test_questions']} questions, {metrics['sentences']} sentences, "
        f"chance {metrics['chance_top1']:.3f}"
    )
    ways = metrics["ways"]
    assert isinstance(ways, dict)
    for name, row in ways.items():
        print(f"{name:12} top-1 {row['top1']:.3f}   spearman {row['spearman']:+.3f}")
    if chosen.write:
        named = " --reference FOLDER" if chosen.reference else ""
        write_result("insight_docs", metrics, f"python -m evals.insight_docs{named} --write")


if __name__ == "__main__":
    main()
