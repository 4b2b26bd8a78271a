"""Replay a trace of arrivals through the scheduler on a model of time. Knows nothing of models or clocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cynosure.engine.fairness import TokenCounter
from cynosure.engine.schedule import Limits, Rates, Refusal, Schedule, SequenceView
from cynosure.engine.scheduler import schedule


@dataclass(frozen=True)
class Arrival:
    """A request as a trace holds it; `max_tokens` is what was asked for where the answer ends by itself."""

    request_id: str
    arrival_s: float
    num_prompt: int
    num_answer: int
    max_tokens: int | None = None
    tenant: str = ""
    priority: int = 0
    deadline_s: float | None = None


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step: reading the weights once, then so much a token of a prompt and a decode."""

    step_s: float = 0.02
    prefill_token_s: float = 0.0002
    decode_s: float = 0.0005

    def seconds(self, num_prefill: int, num_decode: int) -> float:
        """How long a step takes."""
        return self.step_s + num_prefill * self.prefill_token_s + num_decode * self.decode_s

    def rates(self, num_decode: int, answer_tokens: float) -> Rates:
        """What an engine that measured itself would know."""
        return Rates(1.0 / self.prefill_token_s, self.seconds(0, num_decode), answer_tokens)


@dataclass
class Outcome:
    """What became of an arrival: when each token came, or the refusal."""

    arrival: Arrival
    token_s: list[float] = field(default_factory=list)
    refusal: Refusal | None = None
    num_preemptions: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole."""
        return len(self.token_s) == self.arrival.num_answer

    @property
    def ttft_s(self) -> float:
        """Seconds from arrival to the first token."""
        return self.token_s[0] - self.arrival.arrival_s

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between one token and the next."""
        return [later - earlier for earlier, later in zip(self.token_s, self.token_s[1:], strict=False)]


@dataclass(frozen=True)
class StepRecord:
    """One decision: what it was made from, and what it was."""

    now: float
    waiting: tuple[SequenceView, ...]
    running: tuple[SequenceView, ...]
    limits: Limits
    schedule: Schedule
    served: dict[str, float]


@dataclass(frozen=True)
class Simulation:
    """All that happened."""

    outcomes: dict[str, Outcome]
    records: tuple[StepRecord, ...]


def simulate(
    arrivals: Iterable[Arrival],
    limits: Limits,
    cost: StepCost,
    *,
    is_fair: bool = True,
    until_s: float = float("inf"),
) -> Simulation:
    """Serve a trace to its end, or until a time; `is_fair=False` leaves tenants to who came first."""
    run = _Run(sorted(arrivals, key=lambda arrival: (arrival.arrival_s, arrival.request_id)), limits, cost)
    while run.has_work and run.now < until_s:
        run.step(is_fair)
    return Simulation(run.outcomes, tuple(run.records))


@dataclass
class _Sequence:
    arrival: Arrival
    num_generated: int = 0
    num_computed: int = 0
    num_blocks: int = 0
    was_admitted: bool = False

    @property
    def num_tokens(self) -> int:
        return self.arrival.num_prompt + self.num_generated

    def view(self, served: float) -> SequenceView:
        arrival = self.arrival
        max_tokens = arrival.num_answer if arrival.max_tokens is None else arrival.max_tokens
        return SequenceView(
            request_id=arrival.request_id,
            num_tokens=self.num_tokens,
            num_computed=self.num_computed,
            max_num_tokens=arrival.num_prompt + max_tokens,
            num_blocks_held=self.num_blocks,
            priority=arrival.priority,
            arrival_s=arrival.arrival_s,
            deadline_s=arrival.deadline_s,
            tenant=arrival.tenant,
            served_tokens=served,
            was_admitted=self.was_admitted,
        )


class _Run:
    """The state of an engine without its model."""

    def __init__(self, arrivals: list[Arrival], limits: Limits, cost: StepCost) -> None:
        self.now = 0.0
        self.outcomes = {arrival.request_id: Outcome(arrival) for arrival in arrivals}
        self.records: list[StepRecord] = []
        self._coming = arrivals[::-1]
        self._limits, self._cost = limits, cost
        self._free = limits.num_free_blocks
        self._waiting: dict[str, _Sequence] = {}
        self._running: dict[str, _Sequence] = {}
        self._counter = TokenCounter()
        self._answers = [0, 0]

    @property
    def has_work(self) -> bool:
        return bool(self._coming or self._waiting or self._running)

    def step(self, is_fair: bool) -> None:
        self._arrive()
        waiting, running = (
            tuple(
                sequence.view(self._counter.served(sequence.arrival.tenant) if is_fair else 0.0)
                for sequence in sequences.values()
            )
            for sequences in (self._waiting, self._running)
        )
        limits = replace(self._limits, num_free_blocks=self._free)
        num_answers, num_tokens = self._answers
        rates = self._cost.rates(len(running), num_tokens / num_answers if num_answers else 1.0)
        plan = schedule(waiting, running, limits, self.now, rates)
        tenants = {view.tenant for view in (*waiting, *running)}
        served = {tenant: self._counter.served(tenant) for tenant in tenants}
        self.records.append(StepRecord(self.now, waiting, running, limits, plan, served))
        self._carry_out(plan)
        assert plan.steps or plan.refuse or plan.preempt, f"stuck with {len(waiting)} waiting"

    def _arrive(self) -> None:
        if not self._waiting and not self._running:
            self.now = max(self.now, self._coming[-1].arrival_s)
        while self._coming and self._coming[-1].arrival_s <= self.now:
            arrival = self._coming.pop()
            self._waiting[arrival.request_id] = _Sequence(arrival)
            self._counter.arrive(arrival.tenant)

    def _carry_out(self, plan: Schedule) -> None:
        for request_id in plan.preempt:
            self._preempt(request_id)
        for refusal in plan.refuse:
            arrival = self._waiting.pop(refusal.request_id).arrival
            self.outcomes[refusal.request_id].refusal = refusal
            self._counter.depart(arrival.tenant)
        for request_id, num_tokens in plan.steps:
            if request_id in self._waiting:
                self._running[request_id] = self._waiting.pop(request_id)
                self._running[request_id].was_admitted = True
            sequence = self._running[request_id]
            num_blocks = plan.new_blocks.get(request_id, 0)
            self._free -= num_blocks
            sequence.num_blocks += num_blocks
            sequence.num_computed += num_tokens
            self._counter.serve(sequence.arrival.tenant, num_tokens)
            assert sequence.num_computed <= sequence.num_tokens
            assert sequence.num_computed <= sequence.num_blocks * self._limits.block_size
        num_decode = sum(step.num_tokens == 1 for step in plan.steps)
        self.now += self._cost.seconds(plan.num_tokens - num_decode, num_decode) if plan.steps else 0.0
        for request_id, _ in plan.steps:
            self._tell(self._running[request_id])

    def _preempt(self, request_id: str) -> None:
        sequence = self._running.pop(request_id)
        self._free += sequence.num_blocks
        sequence.num_blocks = sequence.num_computed = 0
        self._waiting[request_id] = sequence
        self.outcomes[request_id].num_preemptions += 1

    def _tell(self, sequence: _Sequence) -> None:
        """Add a token where all that is known is computed, and end where that was the last."""
        if sequence.num_computed < sequence.num_tokens:
            return
        outcome = self.outcomes[sequence.arrival.request_id]
        outcome.token_s.append(self.now)
        sequence.num_generated += 1
        if outcome.is_finished:
            del self._running[sequence.arrival.request_id]
            self._free += sequence.num_blocks
            self._counter.depart(sequence.arrival.tenant)
            self._answers = [self._answers[0] + 1, self._answers[1] + sequence.num_generated]
