"""List what is wrong with a schedule. Knows nothing of how it was made."""

from __future__ import annotations

from collections import Counter

from cynosure.engine.simulator import StepRecord


def faults(record: StepRecord) -> list[str]:
    """Return what is wrong with a decision; nothing where it is sound."""
    # Of a stranger nothing can be looked up.
    return _strangers(record) or [
        *_faults_of_who(record),
        *_faults_of_tokens(record),
        *_faults_of_blocks(record),
    ]


def _strangers(record: StepRecord) -> list[str]:
    plan = record.schedule
    known = {view.request_id for view in (*record.waiting, *record.running)}
    told = [step.request_id for step in plan.steps]
    told += [*plan.preempt, *(refusal.request_id for refusal in plan.refuse), *plan.new_blocks]
    return [f"{name} is unknown" for name in told if name not in known]


def _faults_of_who(record: StepRecord) -> list[str]:
    plan, found = record.schedule, []
    waiting = {view.request_id for view in record.waiting}
    running = {view.request_id for view in record.running}
    told = [step.request_id for step in plan.steps]
    told += [*plan.preempt, *(refusal.request_id for refusal in plan.refuse)]
    found += [f"{name} is told {count} things" for name, count in Counter(told).items() if count > 1]
    found += [f"{name} does not run and is preempted" for name in plan.preempt if name not in running]
    found += [f"{item[0]} runs and is refused" for item in plan.refuse if item[0] not in waiting]
    stays = (running - set(plan.preempt)) | {step.request_id for step in plan.steps}
    if len(stays) > max(record.limits.max_num_seqs, len(running)):
        found.append(f"{len(stays)} run at once")
    return found


def _faults_of_tokens(record: StepRecord) -> list[str]:
    plan, limits, found = record.schedule, record.limits, []
    views = {view.request_id: view for view in (*record.waiting, *record.running)}
    if plan.num_tokens > limits.max_num_batched_tokens:
        found.append(f"{plan.num_tokens} tokens are over the budget")
    for name, num_tokens in plan.steps:
        if not 1 <= num_tokens <= min(limits.chunk_size, views[name].num_pending):
            found.append(f"{name} gets {num_tokens} of {views[name].num_pending} tokens")
    decoding = {view.request_id for view in record.running if view.is_decoding}
    served = {step.request_id for step in plan.steps}
    found += [f"{name} waits to decode" for name in decoding - served - set(plan.preempt)]
    num_prefill = sum(num for name, num in plan.steps if name not in decoding)
    if decoding & served and num_prefill > limits.chunk_size:
        found.append(f"{num_prefill} tokens of prompts beside a decode")
    return found


def _faults_of_blocks(record: StepRecord) -> list[str]:
    plan, limits, found = record.schedule, record.limits, []
    views = {view.request_id: view for view in (*record.waiting, *record.running)}
    waiting = {view.request_id for view in record.waiting}
    freed = sum(views[name].num_blocks_held - views[name].num_blocks_shared for name in plan.preempt)
    if sum(plan.new_blocks.values()) > limits.num_free_blocks + freed:
        found.append("more pages are given than are free")
    if set(plan.new_blocks) - {step.request_id for step in plan.steps}:
        found.append("pages go to someone who does not run")
    for name, num_tokens in plan.steps:
        view = views[name]
        held = (view.num_blocks_held + plan.new_blocks.get(name, 0)) * limits.block_size
        if view.num_computed + num_tokens > held:
            found.append(f"{name} has no page for its tokens")
        if name in waiting and view.num_tokens + 1 > held:
            found.append(f"{name} is admitted without pages for its prompt and first token")
    return found
