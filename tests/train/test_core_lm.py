"""The recipe learns, is resumed, and writes what our loader and transformers run alike."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cynosure.core.errors import InputError
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.tool_calls import ToolFormat
from cynosure.models.fill_in import fill_in
from cynosure.models.load import LanguageModel, load
from cynosure.train.code_corpus import CodeCorpus, SourceFile
from cynosure.train.core_lm import RUN, SIZES, CoreRecipe, CoreTrained, train_core_lm
from cynosure.train.core_lm_card import DEMONSTRATION, USEFUL, standing_of, write_card, write_recipe
from cynosure.train.licences import Licensed
from cynosure.train.tiny_decoder import Shape, TinyDecoder
from tests.models.decoder_oracle import gap, logits_of

TINY = Shape(
    vocab_size=400, hidden_size=128, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2,
    max_model_len=96,
)  # fmt: skip
RECIPE = CoreRecipe(TINY, num_steps=24, num_seqs=4, peak_rate=1e-2, is_mixed=False, every=8)
SOURCE = 'def function_{0}(first):\n    """Return {0} more than the first."""\n    return first + {0}\n\n\n'


@pytest.fixture(scope="module")
def corpus() -> CodeCorpus:
    files = tuple(SourceFile("library", f"m{n}.py", SOURCE.format(n) * 4) for n in range(80))
    watched, held = (
        SourceFile("library", "w.py", SOURCE.format(7)),
        SourceFile("library", "h.py", SOURCE.format(81) * 9),
    )
    return CodeCorpus(files, (watched,), (held,), 3, (Licensed("package", "1.0", "MIT"),))


@pytest.fixture(scope="module")
def trained(corpus: CodeCorpus, tmp_path_factory: pytest.TempPathFactory) -> CoreTrained:
    found = train_core_lm(corpus, RECIPE, tmp_path_factory.mktemp("core") / "model")
    write_recipe(corpus, RECIPE, found)
    return found


@pytest.fixture(scope="module")
def model(trained: CoreTrained) -> LanguageModel:
    return load(trained.folder, dtype="float32")


def test_it_learns(trained: CoreTrained) -> None:
    assert trained.fitted.num_steps == 24
    assert trained.held_out_loss < math.log(TINY.vocab_size) - 1
    assert 0 < trained.held_out_bits < 8
    assert [step for step, _ in trained.fitted.checks] == [8, 16, 24]
    assert not (trained.folder / RUN).exists()


def test_ours_and_transformers_agree(trained: CoreTrained, model: LanguageModel) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(trained.folder, dtype=torch.float32)
    prompt = torch.randint(0, 400, (60,)).tolist()
    with torch.inference_mode():
        assert gap(logits_of(model.graph, prompt), theirs(torch.tensor([prompt])).logits[0]) < 1e-4  # type: ignore[arg-type]
    assert model.tokenizer is not None
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    assert tokenizer(SOURCE).input_ids == list(model.tokenizer.encode(SOURCE).ids)
    turns = [{"role": "user", "content": "What is this?"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\n"


def test_it_fills_gaps_and_calls_functions(model: LanguageModel) -> None:
    assert model.tokenizer is not None
    prompt = fill_in(model.tokenizer, "def f", "\n")
    marks = [model.tokenizer.id_to_token(token) for token in prompt.token_ids if token < 8]
    assert marks == ["<|spm_prefix|>", "<|spm_suffix|>", "<|spm_middle|>"]
    assert prompt.end_ids == (0,)
    ends = model.generation_defaults.eos_token_ids
    assert [model.tokenizer.id_to_token(token) for token in ends] == ["<|endoftext|>", "<|im_end|>"]
    assert model.chat_template is not None
    chat = ChatFormat.of(model.chat_template, model.tokenizer)
    assert chat is not None
    assert chat.tool_format is ToolFormat.HERMES
    model.chat_template.close()


def test_a_resumed_run_ends_with_the_same_weights(
    corpus: CodeCorpus, trained: CoreTrained, tmp_path: Path
) -> None:
    calls = 0

    def stop(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += stage == "Training"
        if calls == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_core_lm(corpus, RECIPE, tmp_path / "cut", report=stop)
    assert (tmp_path / "cut" / RUN).is_file()
    assert load(tmp_path / "cut").tokenizer is not None, "what is learned so far can be used"
    resumed = train_core_lm(corpus, RECIPE, tmp_path / "cut", resume=True)
    assert resumed.fitted.losses == trained.fitted.losses
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (resumed.folder / name).read_bytes() == (trained.folder / name).read_bytes()


def test_recipe_and_card_say_what_was_done(trained: CoreTrained, corpus: CodeCorpus) -> None:
    told = json.loads((trained.folder / "recipe.json").read_text())
    assert told["data_sha256"] == corpus.digest
    assert told["recipe"]["seed"] == 0
    assert told["standing"] == DEMONSTRATION
    assert told["num_steps"] == 24
    assert {"python", "torch", "tokenizers"} <= set(told["versions"])
    card = (trained.folder / "README.md").read_text()
    assert "| package | 1.0 | MIT |" in card
    assert "not measured" in card
    assert (trained.folder / "loss.svg").is_file()


def test_the_standing_follows_from_the_figures(trained: CoreTrained) -> None:
    own = {"exact_match": 0.3, "edit_similarity": 0.6, "tests_pass": 0.3, "names_exist": 0.9}
    rivals = {
        f"{prefix}{name}": value - 0.1
        for prefix in ("ngram_", "copy_", "jedi_")
        for name, value in own.items()
    }
    assert standing_of(own | rivals) == USEFUL
    assert standing_of(own | rivals | {"copy_tests_pass": 0.31}) == DEMONSTRATION
    assert standing_of({}) == DEMONSTRATION
    write_card(trained.folder, own | rivals)
    assert "| core-lm | 0.300 | 0.600 | 0.900 | 0.300 |" in (trained.folder / "README.md").read_text()
    assert json.loads((trained.folder / "recipe.json").read_text())["standing"] == USEFUL
    write_card(trained.folder)
    assert "A demonstration" in (trained.folder / "README.md").read_text()


def test_what_can_t_be_trained_is_refused(corpus: CodeCorpus, trained: CoreTrained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists; nothing is overwritten"):
        train_core_lm(corpus, RECIPE, trained.folder)
    with pytest.raises(InputError, match=r"fills \d+ rows"):
        train_core_lm(corpus, replace(RECIPE, num_seqs=10_000), tmp_path / "new")
    with pytest.raises(InputError, match="num_seqs is 0"):
        CoreRecipe(num_seqs=0)


def test_sizes_are_what_they_are_called() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in TinyDecoder(shape).parameters()) for name, shape in SIZES.items()
        }
    assert 6e6 < counts["6m"] < 7e6
    assert 19e6 < counts["20m"] < 22e6
    for shape in SIZES.values():
        assert not any(
            width % 128 for width in (shape.vocab_size, shape.hidden_size, shape.intermediate_size)
        )
