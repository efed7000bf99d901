"""The configuration of a training run: one YAML file, every key checked.

Relative paths are resolved against the folder of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from carten.errors import ConfigError
from carten.model.config import NetworkConfig
from carten.physics.config import AnyTerm
from carten.physics.term import require_distinct
from carten.train.document import read_document, require_bounded
from carten.train.explain import explain
from carten.train.fields import Every, File, Files, Fraction, NotNegative, PositiveFloat, PositiveInt, as_list
from carten.train.overrides import override
from carten.train.start_config import Groups, LoraConfig, ReplayConfig, Start

MAX_SEED = 2**63 - 1

DECLARATION = ("scope", "indices", "parity", "unit")
"""Keys that declare a new property or input."""


def _validation(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, (int, float)) and value <= 0):
        raise ValueError("expected a fraction between 0 and 1, a number of structures (1 or more), or a path")
    if isinstance(value, float) and value >= 1:
        raise ValueError("a fraction must be below 1; write a whole number for a number of structures")
    return as_list(value)


def _distinct(terms: tuple[AnyTerm, ...]) -> tuple[AnyTerm, ...]:
    require_distinct(terms)
    return terms


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BatchConfig(_Section):
    """Upper bounds of one batch; several combine."""

    structures: PositiveInt | None = None
    atoms: PositiveInt | None = None
    edges: PositiveInt | None = None

    @model_validator(mode="after")
    def _some_bound(self) -> BatchConfig:
        if self.structures is None and self.atoms is None and self.edges is None:
            raise ValueError("give at least one of structures, atoms, edges")
        return self


class DataConfig(_Section):
    """Where structures and labels come from."""

    train: Files
    validation: Annotated[float | int | Files, BeforeValidator(_validation)] = 0.1
    """A fraction or a number of structures taken from ``train``, or files of their own."""
    test: Files | None = None
    format: str | None = None
    """ASE's name of the format of all files, for files that you trust. By default it is recognised, and only formats
    whose readers run no code are read."""
    weight: str | None = None
    """Name, in the files, of the weight of each structure in the loss; structures without it weigh 1, and those that
    weigh 0 are left out."""
    group: str | None = None
    """Name, in the files, of the group that each structure belongs to, or ``file``: the file it is from. Errors are
    shown by group. By default ``config_type`` or ``group`` where the files carry it, else ``file``."""
    group_weights: dict[str, NotNegative] = {}
    """Factors, by group, of the weights of structures in the loss; 1 for groups that are not listed, 0 leaves out."""
    group_sampling: dict[str, NotNegative] = {}
    """How often the structures of a group come in an epoch; 1 for groups that are not listed."""
    temperature: Annotated[float, Field(ge=1)] = 1.0
    """Groups of n structures come in proportion to n^(1 / temperature); the epoch keeps its length. 1 takes the data as
    they are, large values all groups equally often."""
    together: str | None = None
    """Name, in the files, of what a random split keeps on one side (a trajectory, a molecule), or ``file``. Structures
    with the same geometry always stay together."""
    batch: BatchConfig = BatchConfig(structures=5)
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that prepare batches ahead; 0 prepares them in the training process."""


class DerivativeConfig(_Section):
    """A property that is a derivative of another, ``sign * d(of) / d(wrt)..``."""

    of: str
    wrt: Annotated[tuple[str, ...], Field(min_length=1)]
    """Of positions, strain and inputs; the indices of the property are those of ``of``, then those of each of these."""
    sign: Literal[-1, 1] = 1
    per_volume: bool = False


class PropertyConfig(_Section):
    """How one property is read and trained; a name that carten does not know declares a new property."""

    key: str | None = None
    """Name of the label in the files; the property's own name when absent."""
    unit: str | None = None
    """Unit of the label in the files (and of the property, when it is new)."""
    weight: NotNegative | Literal["auto"] = 1.0
    """Factor in the loss; ``auto``: the inverse of the loss of the mean label, so that all ``auto`` count alike. What
    has the weight 0 is not trained, but its route holds where others are obtained from it."""
    loss: Literal["squared", "absolute", "huber", "vector_norm"] = "squared"
    delta: PositiveFloat = 0.01
    """Where the Huber loss turns from squared to absolute, in the unit of the property (per atom if extensive)."""
    project: bool = False
    """Whether what violates the index symmetry is projected out of the labels."""
    rows: PositiveInt | None = None
    """For second derivatives (Hessians, Born charges, polarizabilities): rows drawn anew in each step, each a pass over
    the network; all by default."""
    route: (
        Literal[
            "readout",
            "mean",
            "positive",
            "balanced",
            "equalised",
            "equilibrated",
            "induced",
            "multipole",
            "charges",
            "latent",
            "latent_multipoles",
            "sum",
            "derivative",
            "permittivity",
            "atomic_virial",
        ]
        | None
    ) = None
    """How the property is obtained, of its routes; the first by default."""
    scope: Literal["structure", "atom", "pair"] | None = None
    indices: str | None = None
    parity: Literal[-1, 1] | None = None
    time_parity: Literal[-1, 1] | None = None
    """Of a new one: -1 if it changes sign when time is reversed, as magnetic moments do."""
    derivative: DerivativeConfig | None = None
    """Makes a new property a derivative."""


class InputConfig(_Section):
    """Where one input is read from; a name that carten does not know declares a new input."""

    key: str | None = None
    """Name in the files; the input's own name when absent."""
    unit: str | None = None
    """Unit in the files (and of the input, when it is new)."""
    default: float | str | None = None
    """Value of structures that do not carry it; without one they are an error."""
    scale: PositiveFloat | None = None
    """Size of typical values, in the unit of the input; 1 for a new one."""
    embed: Literal["scalar", "category", "tensor", "exchange", "coupled"] | None = None
    """How it enters the features; a new one without indices as scalar, with indices as tensor; coupled: terms alone."""
    values: Annotated[tuple[int | str, ...], Field(min_length=1)] | None = None
    """Values of a category; those in the training files by default."""
    levels: Literal["embedding", "heads", "both"] | None = None
    """For fidelity: whether the level is embedded in the network, selects readouts of its own, or both."""
    scope: Literal["structure", "atom"] | None = None
    indices: str | None = None
    parity: Literal[-1, 1] | None = None
    time_parity: Literal[-1, 1] | None = None
    """Of a new one: -1 if it changes sign when time is reversed, as magnetic moments do."""


class OptimizerConfig(_Section):
    """The optimiser; ``weight_decay`` acts on matrices only, not on vectors."""

    name: Literal["soap", "adamw", "muon"] = "soap"
    lr: PositiveFloat = 0.01
    weight_decay: NotNegative = 1.0e-6
    betas: tuple[Fraction, Fraction] | None = None
    """Decay of the averages of gradients and of their squares; (0.95, 0.95) for soap, else (0.9, 0.999)."""
    amsgrad: bool = False
    """For adamw only."""
    group_lr: dict[str, PositiveFloat] = {}
    """Learning rates of groups of parameters, named as in ``freeze``; ``lr`` is that of all others."""


class ScheduleConfig(_Section):
    """The learning rate over the run, as a multiple of ``optimizer.lr``; fractions are of the whole run."""

    name: Literal["cosine", "wsd", "plateau", "constant"] = "cosine"
    warmup: Fraction = 0.01
    decay: Fraction = 0.3
    """Part of the run in which wsd decays."""
    final: Fraction = 0.01
    """Multiple of the learning rate at the end (and the least that plateau goes to)."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """By which plateau multiplies."""
    patience: PositiveInt = 10
    """Validations without improvement before plateau multiplies."""

    @model_validator(mode="after")
    def _fits(self) -> ScheduleConfig:
        if self.name == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup + decay must be at most 1, found {self.warmup} + {self.decay}")
        return self


class TrainingConfig(_Section):
    """How long to train, and what to watch."""

    epochs: Annotated[int, Field(ge=0, le=2**31)] = 200
    """0 writes the model that the run starts from, as it is made for the data."""
    max_minutes: PositiveFloat | None = None
    """Stop after this time; cosine and wsd end their decay then (which makes a run depend on the machine's speed)."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights, which is what is validated and saved; 0 switches it off."""
    clip: PositiveFloat | None = 10.0
    """Largest norm of the gradient."""
    patience: PositiveInt | None = None
    """Stop after this many epochs without a lower validation loss."""
    validate_every: Every = 1
    """Epochs between validations, or steps, as in ``500 steps``."""
    log_every: Every | None = None
    """Epochs, or steps as in ``100 steps``, between lines with the loss of training, which go to the loggers too."""
    loggers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], BeforeValidator(as_list)] | None = None
    """Where the errors of ``metrics.csv`` are logged as well; by default to TensorBoard, where that is installed."""
    checkpoint_minutes: NotNegative = 5.0
    """Time between checkpoints to resume from; 0 writes one each epoch."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes on each node, which take parts of every batch; on GPUs as many as there are GPUs."""
    nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Nodes on which the same command is started, by srun or torchrun."""

    @property
    def processes(self) -> int:
        """On all nodes together."""
        return self.devices * self.nodes


Energies = Annotated[dict[str, float], Field(min_length=1)]


class Config(_Section):
    """Everything a training run depends on."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    data: DataConfig
    model: NetworkConfig = NetworkConfig()
    start: Start = None
    """A trained model to start from: its path, or a section. ``model`` may then be left out."""
    freeze: Groups | None = None
    """Groups of parameters that stay those of ``start``: embedding, inputs, layers, layer 1, layer 2, .., interactions,
    radial (a part of these), products, updates, network (all of the former), readouts."""
    lora: LoraConfig | None = None
    """Trains low-rank additions to the weights of ``start``, which are part of plain weights in the end."""
    replay: ReplayConfig | None = None
    reference_energies: Literal["auto", "isolated", "fitted", "none"] | Energies = "auto"
    """Isolated atoms if the data have them, else fitted; or given in eV by element.

    With ``start``, ``auto`` moves those of the model by a fit to what it leaves of the energies, ``none`` keeps them.
    """
    properties: Annotated[dict[str, PropertyConfig], Field(min_length=1)] = {
        "energy": PropertyConfig(weight=100.0),
        "forces": PropertyConfig(weight=10.0),
    }
    inputs: dict[str, InputConfig] = {}
    terms: Annotated[tuple[AnyTerm, ...], AfterValidator(_distinct)] = ()
    """Physics that is added to the energy of the network, selected by ``kind``."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    output: File = Path("run")

    @model_validator(mode="after")
    def _has_start(self) -> Config:
        for key in ("freeze", "lora", "replay"):
            if self.start is None and getattr(self, key) is not None:
                raise ValueError(f"{key} needs start, a trained model: its weights are what it is about")
        if self.start is None and not self.training.epochs:
            raise ValueError("training.epochs must be 1 or more, unless start gives a trained model")
        return self

    @classmethod
    def load(cls, path: str | Path, assignments: Sequence[str] = ()) -> Config:
        """Read a YAML file, and set some keys.

        Args:
            path: of the file.
            assignments: ``section.key=value``, see :func:`carten.train.overrides.override`.

        Raises:
            ConfigError: the file cannot be read, is not YAML, or a key or value is wrong; every mistake is listed with
                the path of its key, what was found, what is allowed, and the nearest valid name.
        """
        path = Path(path)
        document = override(read_document(path), assignments)
        source = " ".join([str(path), *(["with keys of the command line"] if assignments else [])])
        return cls.parse(document, path.parent.absolute(), source)

    @classmethod
    def parse(cls, document: Any, folder: Path | None = None, source: str = "configuration") -> Config:
        """Check a configuration given as a dictionary; relative paths are resolved against ``folder``.

        Raises:
            ConfigError: as :meth:`load`.
        """
        if not isinstance(document, dict):
            raise ConfigError(f"{source}: expected keys {', '.join(cls.model_fields)}; found {document!r:.60}")
        require_bounded(document, source)
        try:
            return cls.model_validate(document, context={"folder": folder})
        except ValidationError as error:
            raise ConfigError(explain(error, cls, document, source)) from error

    def dump(self) -> str:
        """The configuration with every default written out, as YAML that :meth:`load` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
