import math

import pytest
import torch
from torch import nn

from carten.train.average import Average
from carten.train.config import OptimizerConfig, ScheduleConfig
from carten.train.optimizer import Length, Schedule, optimizer


def factors(config: ScheduleConfig, *at: float) -> list[float]:
    return [Schedule(config).factor(progress) for progress in at]


def test_cosine_warms_up_and_ends_at_its_final_value() -> None:
    config = ScheduleConfig(name="cosine", warmup=0.1, final=0.02)
    assert factors(config, 0.05, 0.1, 0.55, 1.0) == pytest.approx([0.5, 1.0, 0.51, 0.02])
    assert factors(config, 0.325) == pytest.approx([0.02 + 0.98 * (1 + math.cos(math.pi / 4)) / 2])


def test_wsd_is_stable_then_decays() -> None:
    config = ScheduleConfig(name="wsd", warmup=0.1, decay=0.4, final=0.0)
    assert factors(config, 0.05, 0.1, 0.3, 0.6, 0.7, 1.0) == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.5, 0.0])


def test_constant_stays() -> None:
    assert factors(ScheduleConfig(name="constant", warmup=0.2), 0.1, 0.2, 1.0) == [0.5, 1.0, 1.0]


def test_no_schedule_starts_at_zero() -> None:
    assert factors(ScheduleConfig(warmup=0.5), 0.0)[0] > 0
    assert factors(ScheduleConfig(warmup=1.0), 1.0)[0] > 0


def test_plateau_waits_reduces_and_has_a_floor() -> None:
    schedule = Schedule(ScheduleConfig(name="plateau", warmup=0.0, patience=2, factor=0.5, final=0.2))
    found = []
    for loss in (1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        schedule.observe(loss)
        found.append(schedule.factor(0.5))
    assert found == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]
    other = Schedule(schedule.config)
    other.load_state_dict(schedule.state_dict())
    assert other.state_dict() == schedule.state_dict()
    assert other.factor(0.5) == 0.2


def test_progress_is_by_steps_or_time_whichever_is_further() -> None:
    length = Length(steps=100, seconds=10.0)
    assert length.progress(50, 2.0) == 0.5
    assert length.progress(50, 8.0) == 0.8
    assert length.progress(200, 1.0) == 1.0
    assert Length(100, None).progress(50, 1e9) == 0.5


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(4, 4, generator=generator))
        self.paths = nn.Parameter(torch.randn(2, 3, 4, generator=generator))
        self.vector = nn.Parameter(torch.randn(4, generator=generator))
        self.frozen = nn.Parameter(torch.ones(4, 4), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix + self.vector + self.paths.sum((0, 1))


@pytest.mark.parametrize("name", ["adamw", "muon", "soap"])
def test_weight_decay_acts_on_matrices_only(name: str) -> None:
    made = optimizer([(Model().parameters(), None)], OptimizerConfig(name=name, weight_decay=0.1))
    decay = {p.ndim: group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert decay == {2: 0.1, 3: 0.1, 1: 0.0}


@pytest.mark.parametrize("name", ["adamw", "muon", "soap"])
def test_optimisers_fit_a_line(name: str) -> None:
    model, target = Model(), Model()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(0.5)
    made = optimizer([(model.parameters(), None)], OptimizerConfig(name=name, lr=0.02, weight_decay=0.0))
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    losses = []
    for step in range(300):
        for group in made.param_groups:
            group["lr"] = 0.02 * (1 - step / 300)
        loss = (model(x) - target(x)).square().mean()
        made.zero_grad()
        loss.backward()
        made.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


def test_average_follows_the_weights() -> None:
    model = Model()
    average = Average(model, decay=0.5)
    before = model.matrix.detach().clone()
    with torch.no_grad():
        model.matrix += 1.0
    average.update(step=0)
    torch.testing.assert_close(average.model.matrix, before + 0.9)  # decay (1 + 0) / (10 + 0)
    average.update(step=1000)
    torch.testing.assert_close(average.model.matrix, before + 0.95)
    assert not average.model.matrix.requires_grad
    assert model.matrix.requires_grad


def test_the_average_arrives_where_the_weights_stay() -> None:
    """In float32 it would stop 3e-5 away, where 0.001 of the difference is less than half a unit in the last place."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = Average(model, decay=0.999)
    model.weight.data.add_(1e-4)
    for step in range(20_000, 40_000):
        average.update(step)
    assert torch.equal(average.model.weight, model.weight)
