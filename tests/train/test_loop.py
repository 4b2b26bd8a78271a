"""A run that was cut off ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cynosure.core.errors import CheckpointCorrupt, InputError
from cynosure.train.loop import Course, Fitted, Schedule, fit, optimiser_of


class Cut(Exception):
    """The machine is switched off."""


def new_net() -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1))
    net[0].bias.requires_grad_(False)
    return net


def run(net: nn.Module, checkpoint: Path | None, cut_at: int | None = None, every: int = 5) -> Fitted:
    def loss_of(step: int) -> Tensor:
        if step == cut_at:
            raise Cut
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        return (net(x).squeeze(1) - x.sum(1)).square().mean()

    def check(step: int) -> float:
        return float(step)

    torch.manual_seed(5)  # of the dropout; a run that goes on takes up the state of the one before
    course = Course(Schedule(20, 1e-2), is_mixed=False, checkpoint=checkpoint, every=every)
    return fit(net, optimiser_of(net, 1e-2, 0.1), loss_of, course, check=check)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_it_learns_and_is_measured() -> None:
    net = new_net()
    frozen = net[0].bias.clone()
    fitted = run(net, None)
    assert fitted.num_steps == 20
    assert fitted.last_loss < fitted.losses[0]
    assert fitted.checks == ((5, 5.0), (10, 10.0), (15, 15.0), (20, 20.0))
    assert torch.equal(net[0].bias, frozen)


@pytest.mark.parametrize("cut_at", [3, 5, 17])
def test_a_run_that_goes_on_ends_where_a_whole_one_does(tmp_path: Path, cut_at: int) -> None:
    path = tmp_path / "run" / "run.safetensors"
    whole, parts = new_net(), new_net()
    expected = run(whole, None)
    with pytest.raises(Cut):
        run(parts, path, cut_at)
    assert path.is_file() == (cut_at >= 5)
    again = new_net()
    found = run(again, path)
    assert found.losses == expected.losses
    assert found.checks == expected.checks
    assert torch.equal(weights(again), weights(whole))
    assert not torch.equal(weights(parts), weights(whole))


def test_a_run_that_is_done_takes_no_step(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    before, again = new_net(), new_net()
    run(before, path)
    assert run(again, path, cut_at=20).num_steps == 20
    assert torch.equal(weights(again), weights(before))


def test_another_s_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(new_net(), path)
    with pytest.raises(CheckpointCorrupt, match="another model"):
        run(nn.Sequential(nn.Linear(4, 1)), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointCorrupt, match="can't be read"):
        run(new_net(), path)


def test_the_clock_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr("cynosure.train.loop.perf_counter", lambda: float(next(seconds)))
    net = new_net()
    rates = []

    def loss_of(step: int) -> Tensor:
        rates.append(optimiser.param_groups[0]["lr"])
        return net(torch.ones(2, 4)).square().mean()

    optimiser = optimiser_of(net, 1e-2, 0.0)
    fitted = fit(net, optimiser, loss_of, Course(Schedule(1000, 1e-2, max_minutes=1.0), is_mixed=False))
    assert 20 < fitted.num_steps <= 60
    # The rate has fallen when the time is over, whatever the number of steps.
    assert rates[-1] < 2e-3 < max(rates) <= 1e-2


def test_the_rate_warms_up_and_falls() -> None:
    schedule = Schedule(100, 1.0)
    rates = [schedule.rate(float(step)) for step in range(100)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, rel=0.01)
    assert schedule.rate(1e9) == pytest.approx(0.1)


def test_no_steps_and_no_time_are_refused() -> None:
    with pytest.raises(InputError, match="num_steps is 0"):
        Schedule(0, 1.0)
    with pytest.raises(InputError, match="max_minutes is 0"):
        Schedule(1, 1.0, 0.0)
