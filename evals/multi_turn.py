"""Count what each turn of a conversation computes anew. Knows nothing of where the rest comes from.

    python evals/multi_turn.py [--write] [--turns 20]

A conversation over HTTP, as clients hold one: every turn sends all messages before it again, with the answers
as they came. A turn may prefill what is new (the end of the last answer, the new message, the template around
it) and less than one page.

- Answers in letters, each a token: their text is encoded as it was generated, as text of trained models is.
- Answers drawn at temperature 1: words where the tokenizer would read letters. What was generated is kept in
  tokens, else a turn would read the last answer again, and in more tokens: `text_tokens` says how many the
  conversation has when it is read from its text.

Positive control: a conversation whose first message has changed prefills everything.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cynosure.evaluate.event_stream import post
from cynosure.evaluate.results import write_result
from cynosure.evaluate.server_process import serve

COMMAND = "python evals/multi_turn.py --write"
SHAPES = Path(__file__).parents[1] / "benchmarks" / "shapes.py"
BLOCK_SIZE = 32
ANSWER_LENGTH = 24
LETTERS = f"[a-z]{{{ANSWER_LENGTH}}}"
#: Words of the vocabulary that no text is encoded in, and letters.
WORDS = f"[a-z0-9 ]{{{ANSWER_LENGTH},}}"


@dataclass(frozen=True)
class Turn:
    """What a turn cost; `num_new` tokens spell what it adds: a message, and the template around it."""

    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    num_new: int

    @property
    def num_prefilled(self) -> int:
        """Tokens of the prompt that were computed."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def num_again(self) -> int:
        """Of these, tokens that had been known before."""
        return self.num_prefilled - self.num_new


async def say(url: str, messages: list[dict[str, str]], pattern: str) -> tuple[str, dict[str, int]]:
    """The next answer of a conversation, and its usage."""
    body = {"model": "m", "messages": messages, "max_tokens": ANSWER_LENGTH, "ignore_eos": True, "seed": 0}
    body |= {"temperature": 1.0, "structured_outputs": {"regex": pattern}}
    status, _, answer = await post(f"{url}/v1/chat/completions", body)
    assert status == 200, answer
    usage = answer["usage"]
    counts = {
        "prompt": usage["prompt_tokens"],
        "cached": usage["prompt_tokens_details"]["cached_tokens"],
        "answer": usage["completion_tokens"],
    }
    return answer["choices"][0]["message"]["content"], counts


async def count(url: str, text: str) -> int:
    """How many tokens the tokenizer makes of a text."""
    status, _, answer = await post(
        f"{url}/tokenize", {"model": "m", "prompt": text, "add_special_tokens": False}
    )
    assert status == 200, answer
    return answer["count"]


def rendered(messages: list[dict[str, str]]) -> str:
    """What the toy's template makes of messages."""
    return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant: "


async def converse(
    url: str, num_turns: int, pattern: str = LETTERS
) -> tuple[list[Turn], list[dict[str, str]]]:
    """Hold a conversation of so many turns, with answers that match the pattern; turns and messages."""
    messages = [{"role": "system", "content": "Answer briefly."}]
    turns: list[Turn] = []
    for number in range(num_turns):
        messages.append({"role": "user", "content": f"Question {number}: what comes next, and why?"})
        text, cost = await say(url, messages, pattern)
        # The line that the last answer stood in ends here.
        added = rendered(messages) if number == 0 else "\n" + rendered(messages[-1:])
        turns.append(Turn(cost["prompt"], cost["cached"], cost["answer"], await count(url, added)))
        messages.append({"role": "assistant", "content": text})
    return turns, messages


async def changed(url: str, messages: list[dict[str, str]]) -> int:
    """Cached tokens of a conversation whose first message is another."""
    _, cost = await say(url, [{"role": "system", "content": "X" * 40}, *messages[1:-1]], LETTERS)
    return cost["cached"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write results/multi_turn.json")
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "toy"
        subprocess.run(
            [sys.executable, str(SHAPES), "toy", str(folder)], check=True, stdout=subprocess.DEVNULL
        )
        with serve([f"m={folder}", "--threads", "1"], Path(scratch)) as server:
            server.wait_until_ready()
            turns, messages = asyncio.run(converse(server.url, arguments.turns))
            control = asyncio.run(changed(server.url, messages))
            drawn, said = asyncio.run(converse(server.url, arguments.turns, WORDS))
            text_tokens = asyncio.run(count(server.url, rendered(said[:-1])))
    print("turn  prompt  cached     new  prefilled again")
    for number, turn in enumerate(turns, 1):
        counts = (turn.prompt_tokens, turn.cached_tokens, turn.num_new, turn.num_again)
        print(f"{number:4d}" + "".join(f"{count:8d}" for count in counts))
    drawn_again = max(turn.num_again for turn in drawn[1:])
    print(
        f"drawn at temperature 1: at most {drawn_again} prefilled again; the last prompt has "
        f"{drawn[-1].prompt_tokens} tokens, and {text_tokens} from its text"
    )
    print(f"with another first message, {control} tokens are cached")
    last = turns[-1]
    metrics = {
        "turns": len(turns),
        "prompt_tokens": last.prompt_tokens,
        "new_tokens": last.num_new,
        "prefilled_tokens": last.num_prefilled,
        "max_prefilled_again": max(turn.num_again for turn in turns[1:]),
        "block_size": BLOCK_SIZE,
        "control_cached_tokens": control,
        "drawn_max_prefilled_again": drawn_again,
        "drawn_prompt_tokens": drawn[-1].prompt_tokens,
        "drawn_text_tokens": text_tokens,
    }
    if arguments.write:
        print(write_result("multi_turn", metrics, COMMAND))
    is_small = max(metrics["max_prefilled_again"], drawn_again, control) < BLOCK_SIZE
    sys.exit(0 if is_small and drawn[-1].prompt_tokens < text_tokens else 1)


if __name__ == "__main__":
    main()
