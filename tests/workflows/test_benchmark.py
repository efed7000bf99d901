"""Benchmarks of models: EMT is sound; what is broken on purpose turns red."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential

from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.workflows import battery
from carten.workflows.battery import Findings, crystal_checks, dynamics_checks, molecule_checks
from carten.workflows.benchmark import benchmark
from carten.workflows.consistency import consistency_checks
from carten.workflows.criteria import CRITERIA, Light
from carten.workflows.dimers import dimer_checks, dimer_curve, pairs_of
from small import stiff_model


def lights(checks):
    names = {criterion.name: key for key, criterion in CRITERIA.items()}
    return {names[check.criterion.name]: check.light for check in checks}


class Altered(EMT):
    """EMT whose results are changed after it has computed them."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, list(properties), list(system_changes))
        self.alter()


class WrongForces(Altered):
    def alter(self):
        self.results["forces"] = 1.05 * self.results["forces"]
        self.results["stress"] = 1.05 * self.results["stress"]


class Anisotropic(Altered):
    """Bonds along z are stiffer."""

    def alter(self):
        self.results["forces"] = self.results["forces"] * [1.0, 1.0, 1.1]


class OfSize(Altered):
    """An energy that grows with the square of the number of atoms."""

    def alter(self):
        self.results["energy"] += 0.1 * len(self.atoms) ** 2


class Stepped(MorsePotential):
    """A pair that jumps by 0.05 eV at 2.5 Å."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, list(properties), list(system_changes))
        if len(atoms) == 2 and atoms.get_distance(0, 1) < 2.5:
            self.results["energy"] += 0.05


MORSE = {"epsilon": 0.5, "r0": 2.6, "rho0": 5.0, "rcut1": 3.0, "rcut2": 4.0}


def pair_lights(calculator):
    curve = dimer_curve(("Cu", "Cu"), calculator)
    return lights(dimer_checks(curve, calculator)), curve


def test_a_sound_pair_is_green():
    found, curve = pair_lights(MorsePotential(**MORSE))
    assert set(found.values()) == {Light.GREEN}
    closest = int(np.argmin(np.abs(curve.distances - 2.6)))
    assert curve.energies[closest] == pytest.approx(-0.5, abs=2e-3)


def test_a_hole_at_short_distance_is_red():
    """Lennard-Jones turned over attracts without end, behind a barrier of 1 eV."""
    calculator = LennardJones(epsilon=-1.0, sigma=1.8, rc=6.0, smooth=True)
    checks = dimer_checks(dimer_curve(("Cu", "Cu"), calculator), calculator)
    assert lights(checks)["wall"] is Light.RED
    assert checks[0].value == pytest.approx(1.8 * 2 ** (1 / 6) / 2.64, abs=0.01)
    assert "behind a barrier of 1.0 eV" in checks[0].remark


def test_a_cutoff_that_is_not_smooth_is_red():
    """ASE shifts the energy of Lennard-Jones to zero at the cutoff; its force stays."""
    calculator = LennardJones(sigma=2.2, rc=4.0)
    checks = dimer_checks(dimer_curve(("Cu", "Cu"), calculator), calculator)
    found = lights(checks)
    assert found["end_energy"] is Light.GREEN
    assert found["end_force"] is Light.RED
    force = 24.0 / 4.0 * (2 * (2.2 / 4.0) ** 12 - (2.2 / 4.0) ** 6)
    assert checks[-1].value == pytest.approx(1000.0 * abs(force), rel=1e-3)
    assert "ends at 4.00 Å" in checks[-1].remark


def test_a_jump_is_red_and_has_its_size():
    calculator = Stepped(**MORSE)
    checks = {c.criterion.name: c for c in dimer_checks(dimer_curve(("Cu", "Cu"), calculator), calculator)}
    jump = checks["jump of the energy"]
    assert jump.light is Light.RED
    assert jump.value == pytest.approx(50.0, abs=0.1)
    assert jump.remark == "at 2.50 Å"


def test_further_minima_are_red():
    class Wavy(MorsePotential):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, list(properties), list(system_changes))
            r = atoms.get_distance(0, 1)
            self.results["energy"] -= 1.5 * math.exp(-((r - 4.5) ** 2) / 0.1)

    found, _ = pair_lights(Wavy(**MORSE | {"epsilon": 1.0}))
    assert found["wells"] is Light.RED


@pytest.mark.parametrize(
    ("calculator", "red"),
    [
        (EMT, set()),
        (WrongForces, {"gradient", "stress"}),
        (Anisotropic, {"gradient", "symmetry"}),
        (OfSize, {"extensive"}),
    ],
)
def test_consistency(calculator, red):
    found = lights(consistency_checks("Cu", bulk("Cu", a=3.45), calculator()))
    assert {key for key, light in found.items() if light is Light.RED} == red
    assert found.keys() == {"gradient", "stress", "symmetry", "extensive"}


def test_a_model_is_consistent():
    calculator = Calculator(stiff_model())
    for atoms in (molecule("CH3CH2OH"), bulk("C")):
        found = lights(consistency_checks("x", atoms, calculator))
        assert set(found.values()) <= {Light.GREEN, Light.SKIPPED}


def test_crystals():
    """EMT's copper in fcc: B0 = 134 GPa, vacancy 1.2 eV, (111) 1.0 J/m^2; in bcc it shears, phonons are imaginary."""
    fcc, bcc = Findings(), Findings()
    crystal_checks("Cu", bulk("Cu"), EMT(), fcc)
    assert set(lights(fcc.checks).values()) == {Light.GREEN}
    assert "bulk modulus 134" in fcc.checks[1].remark
    assert "vacancy 1.2" in fcc.checks[-2].remark
    assert "(1 1 1) 1.0" in fcc.checks[-1].remark
    assert [result.job for _, result in fcc.results] == ["eos", "elastic", "phonons", "defects", "surface"]
    square = bulk("Cu", "bcc", a=2.85)
    bcc.attempt("elastic", "Cu", lambda: battery._elastic("Cu", square, EMT(), bcc))
    bcc.attempt("phonons", "Cu", lambda: battery._phonons("Cu", square, EMT(), bcc))
    found = lights(bcc.checks)
    assert found["elastic"] is Light.RED
    assert found["phonons"] is Light.RED


def test_a_crystal_of_the_wrong_size_is_red():
    findings = Findings()
    findings.attempt("volume", "Cu", lambda: battery._volume("Cu", bulk("Cu", a=3.9), EMT(), []))
    assert lights(findings.checks)["volume"] is Light.RED


def test_molecules():
    findings = Findings()
    molecule_checks("N2", molecule("N2"), EMT(), findings)
    assert set(lights(findings.checks).values()) == {Light.GREEN}


@pytest.mark.parametrize("calculator", ["sound", "collapsing", "not conserving"])
def test_dynamics(monkeypatch, calculator):
    monkeypatch.setattr(battery, "STEPS", 60)
    findings = Findings()
    models = {"sound": EMT(), "collapsing": LennardJones(epsilon=-1.0, sigma=2.3), "not conserving": WrongForces()}
    dynamics_checks("Cu", bulk("Cu", cubic=True), models[calculator], findings)
    found = lights(findings.checks)
    if calculator == "sound":
        assert set(found.values()) == {Light.GREEN}
        assert [len(run.times) for run in findings.runs] == [13, 13]
    if calculator == "collapsing":
        assert found["heat"] is Light.RED
        assert "exploded" in findings.checks[1].remark or "overlap" in findings.checks[1].remark
    if calculator == "not conserving":
        assert found["drift"] is not Light.GREEN


def test_what_does_not_apply_is_said(monkeypatch):
    monkeypatch.setattr(battery, "STEPS", 20)
    result = benchmark(EMT(), [molecule("N2")])
    crystals = [check for check in result.checks if check.criterion is CRITERIA["volume"]]
    assert [(check.light, check.remark) for check in crystals] == [(Light.SKIPPED, "no crystals among the structures")]
    assert result.failures() == []
    assert result.subjects == ("N2",)


def test_what_cannot_run_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(battery, "STEPS", 20)
    result = benchmark(EMT(), [molecule("SiH4")])
    assert "No EMT-potential for Si" in " ".join(result.failures())
    result.save(tmp_path)


def test_structures_are_chosen_for_a_model(monkeypatch):
    monkeypatch.setattr(battery, "STEPS", 10)
    result = benchmark(stiff_model())
    assert len(result.subjects) == 3
    assert "chosen by carten" in result.warnings()[0]
    assert len(result.curves) == 6


def test_pairs_of_many_elements():
    assert len(pairs_of(["H", "C", "O"])) == 6
    assert pairs_of(["H", "He", *[f"{x}" for x in "BCNOFPSKVYIUW"]])[0] == ("B", "B")


def test_bad_input():
    with pytest.raises(DataError, match="give structures"):
        benchmark(EMT())
    with pytest.raises(Exception, match="does not know"):
        benchmark(stiff_model(), [Atoms("Fe")])
