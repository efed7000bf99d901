"""Which parameters a run trains, at which learning rates: all, some groups, or low-rank additions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from carten.errors import ConfigError
from carten.properties.potential import Potential
from carten.train.config import Config
from carten.train.lora import LowRank, is_adaptable
from carten.train.parts import parameters_of, require_apart
from carten.train.start_config import LoraConfig


class Tuning:
    """What is trained of a model; the rest of its parameters stays as it is.

    Args:
        model: of which parameters are frozen.
        config: of the run.
        source: the trained model that the run starts from, if any.

    Attributes:
        config: of the optimiser.
        low_rank: what is trained instead of large matrices, if anything.
        count: number of trained parameters.
        total: number of all.

    Raises:
        ConfigError: a group does not exist, nothing is left to train, or a learning rate is of what is not trained.
    """

    def __init__(self, model: Potential, config: Config, source: Potential | None = None) -> None:
        self.config = config.optimizer
        parameters = dict(model.named_parameters())
        trained = set(parameters) - set(parameters_of("freeze", config.freeze or (), model))
        self.low_rank: LowRank | None = None
        if config.lora is not None:
            known = {name for name, _ in source.named_parameters()} if source is not None else set()
            trained = self._adapt(model, config.lora, trained, known, config.seed)
        if not trained:
            raise ConfigError(f"freeze: {', '.join(config.freeze or ())} leave nothing to train; freeze fewer groups")
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in trained)
        self._rates = _rates(model, config, trained)
        self._others = [name for name in parameters if name in trained and not any(name in r for r, _ in self._rates)]
        self.total = sum(parameter.numel() for parameter in parameters.values())
        self.count = sum(tensor.numel() for name in trained for tensor in self._tensors(model, name))

    def _adapt(
        self, model: Potential, lora: LoraConfig, free: Collection[str], known: Collection[str], seed: int
    ) -> set[str]:
        """What is trained: parameters of the groups, as they are or in low rank, and those that are new."""
        chosen = parameters_of("lora.groups", lora.groups, model)
        if frozen := [name for name in chosen if name not in free]:
            raise ConfigError(f"lora.groups: {frozen[0]} is frozen by freeze; name its group in one of them only")
        adapted = {
            name: parameter
            for name, parameter in model.named_parameters()
            if name in chosen and name in known and is_adaptable(parameter.shape, lora.rank)
        }
        if not adapted:
            raise ConfigError(
                f"lora.rank: no matrix of {', '.join(lora.groups)} has fewer numbers in rank {lora.rank}; lower it"
            )
        self.low_rank = LowRank(adapted, lora.rank, (lora.alpha or lora.rank) / lora.rank, seed)
        return {*chosen, *(name for name in free if name not in known)}

    def tensors(self, model: Potential) -> list[tuple[list[Tensor], float | None]]:
        """What is trained, by learning rate; None for that of the optimiser."""
        if self.low_rank is not None:
            self.low_rank.to(next(model.parameters()).device)
        sets: Sequence[tuple[Sequence[str], float | None]] = [*self._rates, (self._others, None)]
        gathered = [([tensor for name in names for tensor in self._tensors(model, name)], lr) for names, lr in sets]
        return [(tensors, lr) for tensors, lr in gathered if tensors]

    def _tensors(self, model: Potential, name: str) -> Sequence[Tensor]:
        if self.low_rank is not None and name in self.low_rank.weights:
            return self.low_rank.trained[name]
        return [model.get_parameter(name)]

    @property
    def lines(self) -> list[str]:
        """Number of trained parameters, where not all are."""
        if self.count == self.total:
            return []
        adapted = f", low-rank additions to {len(self.low_rank.weights)} weights" if self.low_rank is not None else ""
        return [f"trains {self.count:,} parameters, {self.count / self.total:.1%} of {self.total:,}{adapted}"]


def _rates(model: Potential, config: Config, trained: Collection[str]) -> list[tuple[list[str], float]]:
    rates = config.optimizer.group_lr
    require_apart("optimizer.group_lr", list(rates), model)
    chosen = []
    for group, lr in rates.items():
        names = [name for name in parameters_of("optimizer.group_lr", [group], model) if name in trained]
        if not names:
            raise ConfigError(f"optimizer.group_lr.{group}: nothing of this group is trained; remove this key")
        chosen.append((names, lr))
    return chosen
