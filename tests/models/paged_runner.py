"""Run a decoder over pages as an engine would, and over rows of its own. Knows nothing of scheduling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import CacheKey, PagePool, PrefixTree, SequencePages
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from tests.models.decoder_oracle import Logits, Pair, gap, in_chunks

BLOCK_SIZE = 8
NUM_BLOCKS = 24
KEY = CacheKey("ann", "tiny", "float32")


@dataclass(eq=False)
class Line:
    """One sequence: its pages, and the tokens that are in them."""

    pages: SequencePages
    tokens: list[int]


class PagedRunner:
    """A decoder, pages that hold NaN until they are written, and the books about them.

    Pages of codes (`dtype` int8) have scales that are NaN until then.
    """

    def __init__(self, graph: Decoder, dtype: str = "auto") -> None:
        """Shuffle the pages, so that a sequence's are neither in order nor side by side."""
        self.graph = graph
        self.dtype = dtype
        self.cache = graph.new_paged_cache(NUM_BLOCKS, BLOCK_SIZE, dtype)
        self.tree = PrefixTree(PagePool(NUM_BLOCKS), BLOCK_SIZE)
        for layer in range(len(graph.cache_shapes)):
            for pages in self.cache.scales(layer) or self.cache.pages(layer):
                pages.fill_(float("nan"))
        taken = self.tree.pool.allocate(NUM_BLOCKS)
        assert taken is not None
        order = torch.randperm(NUM_BLOCKS, generator=torch.Generator().manual_seed(5)).tolist()
        self.tree.pool.release([taken[index] for index in order])

    def line(self, prompt: Sequence[int] = (), key: CacheKey | None = None) -> Line:
        """Begin a sequence, with known pages of `prompt` where it has a key."""
        pages = SequencePages(self.tree, key, self.cache.copy_block)
        match = pages.reuse(prompt)
        return Line(pages, list(prompt[: match.num_tokens]) if match else [])

    def step(self, *work: tuple[Line, Sequence[int]]) -> list[Logits]:
        """Run one batch of new tokens, any number for each sequence; the logits of each."""
        for line, new in work:
            assert line.pages.reserve(len(new))
        batch = Batch.pack(
            [new for _, new in work],
            past_lens=[line.pages.num_tokens for line, _ in work],
            block_tables=[line.pages.blocks for line, _ in work],
        )
        logits = self.graph.logits(self.graph(batch, self.cache).hidden)
        for line, new in work:
            line.tokens += new
            line.pages.fill(line.tokens)
        return list(logits.split(batch.new_lens))

    def in_chunks(self, line: Line, tokens: Sequence[int], sizes: Sequence[int]) -> Logits:
        """Run `tokens` in steps of `sizes`."""
        parts, first = [], 0
        for size in sizes:
            parts += self.step((line, tokens[first : first + size]))
            first += size
        assert first == len(tokens)
        return torch.cat(parts)

    def alone(self, tokens: Sequence[int]) -> Logits:
        """Logits in two chunks through rows of its own; where pages hold codes, through fresh pages."""
        if self.dtype == "auto":
            return alone(self.graph, tokens)
        fresh, first = PagedRunner(self.graph, self.dtype), len(tokens) // 2
        return fresh.in_chunks(fresh.line(), tokens, (first, len(tokens) - first))


@dataclass(frozen=True, eq=False)
class Scene:
    """Three prompts, a runner, and each prompt's logits from rows of its own."""

    runner: PagedRunner
    prompts: list[list[int]]
    expected: list[Float[Tensor, "n vocab"]]

    def anew(self) -> Scene:
        return replace(self, runner=PagedRunner(self.runner.graph, self.runner.dtype))

    @classmethod
    def of(cls, pair: Pair, dtype: str = "auto") -> Scene:
        runner = PagedRunner(pair.graph, dtype)
        return cls(runner, pair.prompts, [runner.alone(prompt) for prompt in pair.prompts])


def difference(ours: Logits, theirs: Logits) -> float:
    """The largest difference; infinity where there is NaN, which `max` might pass over."""
    return gap(ours, theirs) if bool(ours.isfinite().all()) else float("inf")


def alone(graph: Decoder, tokens: Sequence[int]) -> Logits:
    """Logits through a contiguous cache, in two chunks."""
    first = len(tokens) // 2
    return in_chunks(graph, tokens, (first, len(tokens) - first))


def prefill(scene: Scene) -> float:
    """All prompts in one batch."""
    lines = [scene.runner.line() for _ in scene.prompts]
    logits = scene.runner.step(*zip(lines, scene.prompts, strict=True))
    return max(map(difference, logits, scene.expected))


def chunked(scene: Scene) -> float:
    """Chunks that end before, on and after the edges of pages, on pages that held other sequences."""
    worst = 0.0
    for sizes in ((1, 7, 36), (8, 16, 20), (9, 6, 29)):
        line = scene.runner.line()
        logits = scene.runner.in_chunks(line, scene.prompts[0], sizes)
        line.pages.release()
        worst = max(worst, difference(logits, scene.expected[0]))
    return worst


def decode(scene: Scene) -> float:
    """Token by token, two sequences at once."""
    short, other = scene.prompts[1], scene.prompts[2]
    lines = [scene.runner.line(), scene.runner.line()]
    steps = [scene.runner.step((lines[0], [a]), (lines[1], [b])) for a, b in zip(short, other, strict=False)]
    ours = [torch.cat(parts) for parts in zip(*steps, strict=True)]
    return max(
        difference(rows, expected[:7]) for rows, expected in zip(ours, scene.expected[1:], strict=True)
    )


def mixed(scene: Scene) -> float:
    """One sequence decodes while another's prompt comes in chunks, and a third joins and leaves."""
    run, (long, short, middle) = scene.runner, scene.prompts
    first, second = run.line(), run.line()
    got = run.step((first, middle[:20]))
    steps = []
    for index in range(9):
        work = [(second, long[5 * index : 5 * index + 5]), (first, middle[20 + index : 21 + index])]
        if index == 4:
            work.insert(1, (run.line(), short))
        steps.append(run.step(*work))
    joined = difference(steps[4].pop(1), scene.expected[1])
    second_logits = torch.cat([parts[0] for parts in steps])
    first_logits = torch.cat([*got, *(parts[1] for parts in steps)])
    return max(
        joined, difference(second_logits, scene.expected[0]), difference(first_logits, scene.expected[2])
    )


def prefix_hit(scene: Scene) -> float:
    """Two sequences read pages that a third filled, in one batch with it, and go on differently."""
    run, (long, short, _) = scene.runner, scene.prompts
    first = run.line(long[:40], KEY)
    run.step((first, long[:40]))
    branch = [*long[:27], *short]
    twin, other = run.line(long, KEY), run.line(branch, KEY)
    assert (len(first.tokens), len(twin.tokens), len(other.tokens)) == (40, 40, 24)
    assert twin.pages.blocks == first.pages.blocks
    assert other.pages.blocks == first.pages.blocks[:3]
    logits = run.step((first, long[40:]), (twin, long[40:]), (other, branch[24:]))
    theirs = [scene.expected[0][40:], scene.expected[0][40:], run.alone(branch)[24:]]
    worst = max(map(difference, logits, theirs))
    for line in (first, twin, other):
        line.pages.release()
    again = run.line(long, KEY)
    assert len(again.tokens) == 40
    return max(worst, difference(run.step((again, long[40:]))[0], scene.expected[0][40:]))


def rolled_back(scene: Scene) -> float:
    """Crop into a page that is shared, write other tokens; then the first sequence and a new one go on."""
    run, (long, short, _) = scene.runner, scene.prompts
    reader = run.line(long[:30], KEY)
    run.step((reader, long[:30]))
    writer = run.line(long[:30], KEY)
    run.step((writer, long[len(writer.tokens) : 30]))
    writer.pages.crop(13)
    del writer.tokens[13:]
    branch = [*long[:13], *short]
    worst = difference(run.step((writer, short))[0], run.alone(branch)[13:])
    worst = max(worst, difference(run.step((reader, long[30:]))[0], scene.expected[0][30:]))
    again = run.line(long, KEY)
    assert len(again.tokens) == 40
    return max(worst, difference(run.step((again, long[40:]))[0], scene.expected[0][40:]))


def forked(scene: Scene) -> float:
    """Two answers to one prompt share its pages; each copies the one that it writes to, or has it alone."""
    run, (long, short, middle) = scene.runner, scene.prompts
    first = run.line(key=KEY)
    run.step((first, long[:21]))
    second = Line(first.pages.fork(), list(first.tokens))
    assert second.pages.blocks == first.pages.blocks
    logits = run.step((second, short), (first, middle[:9]))
    assert second.pages.blocks[:2] == first.pages.blocks[:2]
    theirs = [run.alone([*long[:21], *more])[21:] for more in (short, middle[:9])]
    return max(map(difference, logits, theirs))


def preempted(scene: Scene) -> float:
    """Give all pages back in the middle, let another sequence overwrite them, compute the tokens again."""
    run, (long, _, middle) = scene.runner, scene.prompts
    line = run.line()
    run.step((line, long[:25]))
    held = line.pages.blocks
    line.pages.release()
    other = run.line()
    run.step((other, middle))
    assert set(other.pages.blocks) & set(held)
    again = run.line()
    return difference(run.in_chunks(again, long, (30, 14)), scene.expected[0])


CHECKS: dict[str, Callable[[Scene], float]] = {
    "prefill": prefill,
    "chunked": chunked,
    "decode": decode,
    "mixed": mixed,
    "prefix_hit": prefix_hit,
    "rolled_back": rolled_back,
    "forked": forked,
    "preempted": preempted,
}
