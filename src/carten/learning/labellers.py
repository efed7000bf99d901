"""What labels structures: electronic-structure programs and models, by name."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.errors import ConfigError
from carten.pretrained import SUFFIX, located

if TYPE_CHECKING:
    from ase import Atoms

CHARGES, MULTIPLICITIES = ("total_charge", "charge"), ("spin_multiplicity", "multiplicity")
"""Names in ``atoms.info``, the first that is present counts."""


@dataclass(frozen=True)
class QuantumCode:
    """An electronic-structure program that is told charge and multiplicity of each structure.

    Args:
        target: ``module:Class`` of its ASE calculator.
        package: that has to be installed.
        install: what to install where the module is missing.
        defaults: options of the class.
        level: level of theory, from the options.
    """

    target: str
    package: str
    install: str
    defaults: Mapping[str, Any]
    level: Callable[[Mapping[str, Any]], str]


PROGRAMS: Mapping[str, QuantumCode] = {
    "tblite": QuantumCode(
        "tblite.ase:TBLite",
        "tblite",
        "pip install 'carten[xtb]'",
        {"method": "GFN2-xTB", "accuracy": 0.01, "verbosity": 0},
        lambda options: str(options["method"]),
    ),
    "pyscf": QuantumCode(
        "carten.learning.density_functional:MolecularDFT",
        "pyscf",
        "pip install 'carten[pyscf]'",
        {"xc": "pbe", "basis": "def2-svp"},
        lambda options: f"{options['xc']}/{options['basis']}",
    ),
}


@dataclass(frozen=True)
class Labeller:
    """A program or model that computes labels.

    Args:
        name: one of :data:`PROGRAMS`, a model file, a calculator of ASE by its name there (``emt``), or
            ``module:Class`` of one that is installed or lies in the working directory.
        options: keyword arguments of the calculator.
        level: level of theory that is written beside the labels; what follows from name and options when empty.

    Raises:
        ConfigError: there is nothing of this name, it is not installed, or it does not accept the options.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    level: str = ""

    @cached_property
    def level_of_theory(self) -> str:
        """``GFN2-xTB``, for example."""
        if self.level:
            return self.level
        if (program := PROGRAMS.get(self.name)) is not None:
            return program.level({**program.defaults, **self.options})
        return Path(self.name).stem if self._is_model else self.name.rpartition(":")[2]

    @property
    def implemented(self) -> tuple[str, ...]:
        """Properties it computes, as ASE names them."""
        if self._is_model:
            return tuple(self._model.implemented_properties)
        return tuple(getattr(self._class, "implemented_properties", ()))

    def calculator(self, atoms: Atoms) -> Any:
        """A calculator for a structure. That of a program is new, so that labels do not depend on those before.

        Raises:
            ConfigError: the structure has a charge or an open shell that the calculator would not know of.
        """
        if self._is_model:
            return self._model
        options = dict(self.options)
        if (program := PROGRAMS.get(self.name)) is not None:
            state = {"charge": charge_of(atoms), "multiplicity": multiplicity_of(atoms)}
            options = {**program.defaults, **state, **options}
        else:
            self._require_plain(atoms)
        try:
            return self._class(**options)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"{self.name}: does not accept the options {dict(self.options)}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    @property
    def _is_model(self) -> bool:
        return located(self.name).suffix == SUFFIX

    @cached_property
    def _model(self) -> Any:
        from carten.interfaces.ase import Calculator

        options = {"threads": 1, **self.options}
        try:
            return Calculator(self.name, **options)
        except TypeError as error:
            raise ConfigError(f"{self.name}: does not accept the options {dict(self.options)}: {error}") from error

    @cached_property
    def _class(self) -> Any:
        program = PROGRAMS.get(self.name)
        target = self.name if program is None else program.target
        if program is None and ":" not in target:
            return _of_ase(target)
        module, _, name = target.partition(":")
        if program is not None and importlib.util.find_spec(program.package) is None:
            raise ConfigError(f"{self.name} is not installed: {program.install}")
        try:
            calculator = getattr(importlib.import_module(module), name)
        except ImportError as error:
            advice = "it must be installed, or lie in the working directory"
            raise ConfigError(f"{self.name}: cannot import {module} ({error}): {advice}") from error
        except AttributeError as error:
            raise ConfigError(f"{self.name}: the module {module} has no class {name!r}") from error
        if program is not None:
            self._require_options(list(calculator.default_parameters))
        return calculator

    def _require_options(self, known: Sequence[str]) -> None:
        """Refuse options that the calculator would silently ignore."""
        for name in self.options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ConfigError(f"{self.name} has no option {name!r}; {hint}it has {', '.join(known)}")

    def _require_plain(self, atoms: Atoms) -> None:
        state = {"charge": charge_of(atoms), "spin multiplicity": multiplicity_of(atoms)}
        named = any(key in atoms.info for key in (*CHARGES, *MULTIPLICITIES))
        if named and (state["charge"] or state["spin multiplicity"] != lowest_multiplicity(atoms)) and not self.options:
            values = ", ".join(f"{name} {value:g}" for name, value in state.items())
            raise ConfigError(
                f"{self.name}: the structure has {values}, of which this calculator is not told: give its own options "
                "for them, and label structures that differ one after the other"
            )


def charge_of(atoms: Atoms) -> float:
    """Total charge in e: ``info["total_charge"]`` or ``info["charge"]``, else the sum of the initial charges."""
    for key in CHARGES:
        if key in atoms.info:
            return float(atoms.info[key])
    return float(np.round(atoms.get_initial_charges().sum(), 6))


def multiplicity_of(atoms: Atoms) -> int:
    """2S + 1: of ``info``, else of the initial magnetic moments, else the lowest that the electrons allow."""
    for key in MULTIPLICITIES:
        if key in atoms.info:
            return int(atoms.info[key])
    moments = atoms.get_initial_magnetic_moments()
    if moments.ndim == 1 and np.any(moments):
        return round(abs(float(moments.sum()))) + 1
    return lowest_multiplicity(atoms)


def lowest_multiplicity(atoms: Atoms) -> int:
    """1 for an even number of electrons, 2 for an odd one."""
    return 1 + round(int(atoms.numbers.sum()) - charge_of(atoms)) % 2


def _of_ase(name: str) -> Any:
    from ase.calculators.calculator import get_calculator_class
    from ase.calculators.names import names

    if name not in names:
        known = [*PROGRAMS, *names]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"{name}: no such labeller; {hint}expected {', '.join(PROGRAMS)}, a model (.carten), a calculator of ASE "
            f"({', '.join(names[:4])}, ...) or module:Class"
        )
    try:
        return get_calculator_class(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name}: this calculator of ASE cannot be used here: {error}") from error
