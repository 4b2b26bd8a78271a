"""Compare our MiniLM with an independent runner on 200 texts, and measure its speed.

    python evals/embedder_check.py [--write]

The runner is `transformers` with mean pooling, float32, one text at a time.
"""

from __future__ import annotations

import argparse
import inspect
import os
import random
import time
from collections.abc import Sequence
from importlib import import_module

import numpy as np
import torch
import transformers
from jaxtyping import Float

from cynosure.evaluate.results import write_result
from cynosure.models.embedder import Embedder, fastest_dtype
from cynosure.models.minilm import load_minilm
from cynosure.models.minilm_package import minilm_folder

NUM_TEXTS = 200
MIN_COSINE = 0.9999
NUM_THREADS = 2
NUM_PASSAGES = 400
_DOCUMENTED = (
    "os",
    "asyncio",
    "collections",
    "inspect",
    "logging",
    "subprocess",
    "email",
    "argparse",
    "shutil",
)

_SUBJECTS = ("the parser", "a sailor", "my neighbour's cat", "the second server", "nobody", "her old teacher")
_VERBS = ("merges", "opens", "forgets", "measures", "rewrites", "cannot find", "is proud of", "waits for")
_OBJECTS = ("two sorted lists", "the harbour lights", "a broken index", "seventeen files", "the cache", "it")
_ADVERBS = ("", " at night", " without asking", ", which is odd", " in O(n log n)", " again; and again")
_UNICODE = (
    "Größe, naïve café, straße",
    "Ελλάδα και Μόσχα – Москва",
    "東京は日本の首都です。",
    "한국어 문장을 임베딩합니다",
    "שלום עולם، مرحبا بالعالم",
    "cafe\u0301 e\u0301te\u0301 (decomposed)",
    "🙂 👩‍👩‍👧 flags 🇫🇷 and ½ ≤ π²",
    "ﬁne ligatures, ｆｕｌｌｗｉｄｔｈ and soft\u00adhyphens",
    "हिन्दी में एक वाक्य",
    "tabs\tand\nnew lines   and   spaces",
)
_CODE = (
    "def {0}(x: int) -> int:\n    return x * {1}",
    "for i in range({1}): print({0}[i])",
    "SELECT {0} FROM t WHERE id = {1};",
    "{0} = {{'key': [{1}, None], \"other\": lambda: 0}}",
    "#include <{0}.h>\nint main(void) {{ return {1}; }}",
    "git commit -m '{0}' && make -j{1} || exit 1",
    "https://example.org/{0}?page={1}#top",
    "self.{0}_{1} += np.einsum('ij,jk->ik', a, b)",
)
_ODD = (
    "?",
    "a",
    "1 + 1 = 2",
    "!!!",
    "3.14159",
    "HELLO WORLD",
    "x" * 120,
    "...",
    "the the the the",
    "0xDEADBEEF",
)


def sentences(count: int = NUM_TEXTS) -> list[str]:
    """Short, long, Unicode and code texts in turn, always the same."""
    dice = random.Random(7)
    kinds = (_short, _long, _unicode, _code, _short)
    return [kinds[place % len(kinds)](dice) if place % 20 else dice.choice(_ODD) for place in range(count)]


def _short(dice: random.Random) -> str:
    parts = [dice.choice(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _ADVERBS)]
    return f"{parts[0].capitalize()} {parts[1]} {parts[2]}{parts[3]}."


def _long(dice: random.Random) -> str:
    return " ".join(_short(dice) for _ in range(dice.randint(6, 15)))


def _unicode(dice: random.Random) -> str:
    return " ".join(dice.sample(_UNICODE, dice.randint(1, 3)))


def _code(dice: random.Random) -> str:
    name = "".join(dice.choice("abcdefgxyz") for _ in range(dice.randint(2, 9)))
    return "\n".join(
        dice.choice(_CODE).format(name, dice.randint(0, 9999)) for _ in range(dice.randint(1, 4))
    )


def independent(texts: Sequence[str]) -> Float[np.ndarray, "n dim"]:
    """Embed with transformers: mean of the last hidden states, then length 1."""
    folder = minilm_folder()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    with torch.inference_mode():
        for text in texts:
            given = tokenizer(text, return_tensors="pt", truncation=False)
            mean = model(**given).last_hidden_state[0].mean(0)
            vectors.append((mean / mean.norm()).numpy())
    return np.stack(vectors)


def cosines(a: Float[np.ndarray, "n dim"], b: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, " n"]:
    """The cosine of each pair, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def passages(embedder: Embedder) -> list[str]:
    """Documentation of the running interpreter that fits the model."""
    modules = [import_module(name) for name in _DOCUMENTED]
    docs = [inspect.getdoc(thing) or "" for module in modules for thing in vars(module).values()]
    kept = sorted(
        {doc for doc in docs if len(doc) > 40 and embedder.count_tokens(doc) <= embedder.max_tokens}
    )
    return random.Random(7).sample(kept, NUM_PASSAGES)


def speed(embedder: Embedder, texts: Sequence[str]) -> float:
    """Tokens a second, the best of three runs."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        counts = embedder.embed_counted(texts).token_counts
        best = max(best, sum(counts) / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/embedder.json")
    asked = parser.parse_args()
    torch.set_num_threads(min(NUM_THREADS, len(os.sched_getaffinity(0))))
    texts = sentences()
    expected = independent(texts)
    metrics: dict[str, object] = {"num_texts": len(texts), "fastest_dtype": fastest_dtype()}
    for dtype in ("float32", "bfloat16"):
        embedder = load_minilm(dtype)
        found = cosines(embedder.embed(texts), expected)
        metrics[dtype] = {
            "min_cosine": round(float(found.min()), 7),
            "mean_cosine": round(float(found.mean()), 7),
            "tokens_per_s": round(speed(embedder, passages(embedder))),
        }
        print(dtype, metrics[dtype])
        if dtype == "float32" and found.min() < MIN_COSINE:
            raise SystemExit(
                f"{texts[int(found.argmin())]!r} has the cosine {found.min()}; {MIN_COSINE} is the bar"
            )
    metrics["num_threads"] = torch.get_num_threads()
    if asked.write:
        print(write_result("embedder", metrics, "python evals/embedder_check.py --write"))


if __name__ == "__main__":
    main()
