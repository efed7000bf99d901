"""What a run that starts from a trained model trains: groups of parameters, low-rank additions."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from carten.errors import ConfigError
from carten.properties.io import load
from carten.properties.potential import Potential
from carten.train.config import Config
from carten.train.lora import LowRank
from carten.train.optimizer import optimizer
from carten.train.parts import PARTS, parts_of_model
from carten.train.run import train
from carten.train.tuning import Tuning

Configure = Callable[..., Config]
QUIET = Console(quiet=True)


def changed(model: Potential, source: Potential) -> set[str]:
    """Names of the parameters that differ."""
    before = dict(source.named_parameters())
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def tuned(configure: Configure, trained: Path, **sections: Any) -> tuple[Potential, Potential, str]:
    """The model of one epoch, the one that it starts from, and what is shown."""
    shown = io.StringIO()
    training = {"epochs": 1, "ema": 0.0}
    config = configure(start=str(trained), dtype="float64", training=training, **sections)
    result = train(config, console=Console(file=shown, width=1000))
    return load(result.model), load(trained), shown.getvalue()


def test_every_parameter_is_in_a_group(trained: Path) -> None:
    model = load(trained)
    groups, names = parts_of_model(model), {name for name, _ in model.named_parameters()}
    assert set(groups) == {*PARTS, "layer 1"} - {"inputs"}
    assert {*groups["network"], *groups["readouts"]} == names
    disjoint = ("embedding", "interactions", "products", "updates", "readouts")
    assert sorted(name for group in disjoint for name in groups[group]) == sorted(names)
    assert groups["layer 1"] == groups["layers"]
    assert set(groups["radial"]) < set(groups["interactions"])


@pytest.mark.parametrize("frozen", [["embedding", "layers"], ["readouts", "radial"]])
def test_frozen_groups_stay_as_they_were(configure: Configure, trained: Path, frozen: list[str]) -> None:
    model, source, shown = tuned(configure, trained, freeze=frozen)
    groups = parts_of_model(source)
    still = {name for group in frozen for name in groups[group]}
    assert changed(model, source) == {name for name, _ in source.named_parameters()} - still
    count = sum(p.numel() for name, p in source.named_parameters() if name not in still)
    assert f"trains {count} parameters" in shown


def test_low_rank_additions_are_part_of_plain_weights(configure: Configure, trained: Path) -> None:
    """The file is an ordinary model; what was added has the rank, and the loss falls."""
    model, source, shown = tuned(configure, trained, lora={"rank": 1, "groups": ["layers"]})
    before = dict(source.named_parameters())
    assert "low-rank additions to" in shown
    ranks = {}
    for name in changed(model, source):
        difference = model.get_parameter(name) - before[name]
        ranks[name] = int(torch.linalg.matrix_rank(difference, rtol=1e-9).max())
    large = {name for name in parts_of_model(source)["layers"] if min(before[name].shape[-2:]) > 2}
    assert set(ranks) == set(parts_of_model(source)["layers"])
    assert large and {ranks[name] for name in large} == {1}


def test_gradients_of_low_rank_additions_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(3, 6, 5, generator=generator, dtype=torch.float64))
    x = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    low_rank = LowRank({"weight": weight}, rank=2, factor=0.7)
    left, right = low_rank.trained["weight"]
    initial = weight.detach().clone()
    with torch.no_grad():
        right.normal_(generator=generator)
    low_rank.update()
    copies = [value.detach().clone().requires_grad_() for value in (left, right)]
    (x @ (initial + 0.7 * copies[0] @ copies[1])).tanh().sum().backward()
    (x @ weight).tanh().sum().backward()
    low_rank.lead_gradients()
    assert weight.grad is None
    for value, copy in zip((left, right), copies, strict=True):
        torch.testing.assert_close(value.grad, copy.grad, rtol=1e-12, atol=1e-12)


def test_a_resumed_run_with_low_rank_additions_is_the_same(configure: Configure, trained: Path, tmp_path: Path) -> None:
    sections = {"start": str(trained), "lora": {"rank": 1}, "schedule": {"name": "constant", "warmup": 0.0}}
    models = []
    for name, epochs in (("at once", [2]), ("in two", [1, 2])):
        for k, n in enumerate(epochs):
            training = {"epochs": n, "ema": 0.0}
            config = configure(**sections, output=str(tmp_path / name), training=training)
            result = train(config, resume=k > 0, console=QUIET)
        models.append(load(result.model).state_dict())
    assert changed(load(result.model), load(trained))
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_groups_have_learning_rates_of_their_own(configure: Configure, trained: Path) -> None:
    rates = {"readouts": 0.02, "embedding": 0.003}
    config = configure(start=str(trained), optimizer={"name": "adamw", "lr": 0.001, "group_lr": rates})
    model = load(trained)
    groups = optimizer(Tuning(model, config).tensors(model), config.optimizer).param_groups
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    members = parts_of_model(model)
    for name, parameter in model.named_parameters():
        expected = next((lr for group, lr in rates.items() if name in members[group]), 0.001)
        assert rate_of[id(parameter)] == expected


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"freeze": "layer 2"}, r"freeze: the model has no group of parameters 'layer 2', it has .*; did you mean"),
        ({"lora": {"groups": ["attention"]}}, r"lora.groups: the model has no group of parameters 'attention'"),
        ({"lora": {"rank": 64}}, r"lora.rank: no matrix of network, readouts has fewer numbers in rank 64; lower it"),
        ({"freeze": ["network", "readouts"]}, r"freeze: network, readouts leave nothing to train"),
        ({"freeze": "radial", "lora": {"rank": 1}}, r"lora.groups: .*radial.* is frozen by freeze"),
        ({"optimizer": {"group_lr": {"inputs": 0.1}}}, r"optimizer.group_lr: the model has no group .* 'inputs'"),
        ({"optimizer": {"group_lr": {"layers": 0.1, "radial": 0.1}}}, r"layers and radial share parameters"),
        ({"freeze": "readouts", "optimizer": {"group_lr": {"readouts": 0.1}}}, r"group_lr.readouts: nothing of this"),
    ],
)
def test_groups_that_do_not_fit_are_refused(
    configure: Configure, trained: Path, sections: dict[str, Any], complaint: str
) -> None:
    model = load(trained)
    with pytest.raises(ConfigError, match=complaint):
        Tuning(model, configure(start=str(trained), **sections), model)


@pytest.mark.parametrize("sections", [{"freeze": "embedding"}, {"lora": {"rank": 1}}])
def test_without_a_start_there_is_nothing_to_keep(configure: Configure, sections: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(freeze|lora) needs start, a trained model"):
        configure(**sections)
