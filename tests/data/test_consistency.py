"""Labels that are slopes of other labels are recognised, and so are wrong signs and units."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

import contract
from carten.data.consistency import agreements
from carten.data.labels import Frame, Label, frames_from
from carten.data.response import responses
from carten.properties.spec import input_table, property_table
from properties.cases import build, solid

TABLE = property_table()


def frames(names: tuple[str, ...], structures: list[Atoms]) -> list[Frame]:
    return frames_from([(f"frame {k}", atoms) for k, atoms in enumerate(structures)], [Label(TABLE[n]) for n in names])


def scaled(found: list[Frame], name: str, factor: float) -> list[Frame]:
    return [replace(frame, labels={**frame.labels, name: factor * frame.labels[name]}) for frame in found]


@pytest.fixture(scope="module")
def copper() -> list[Frame]:
    """A random walk of small steps, atoms wrapped into the cell."""
    rng, structures = np.random.default_rng(0), []
    atoms = bulk("Cu", cubic=True)
    for _ in range(8):
        atoms.positions += 0.05 * rng.normal(size=(4, 3))
        copy = atoms.copy()
        copy.wrap()
        copy.calc = EMT()
        copy.info.update(energy=copy.get_potential_energy(), forces=copy.get_forces())
        structures.append(copy)
    return frames(("energy", "forces"), structures)


@pytest.mark.parametrize(
    ("factor", "ratio", "verdict"),
    [(1.0, 1.0, "as expected"), (-1.0, -1.0, "opposite sign"), (27.2, 1 / 27.2, "other unit")],
)
def test_forces_are_slopes_of_energies(copper, factor, ratio, verdict):
    rows = {name: TABLE[name] for name in ("energy", "forces")}
    (found,) = agreements(scaled(copper, "forces", factor), rows)
    assert (found.slope, found.of, found.verdict) == ("forces", "energy", verdict)
    assert found.ratio == pytest.approx(ratio, rel=0.1)
    assert found.pairs > 20


def test_noise_is_not_judged(copper):
    rng = np.random.default_rng(1)
    noise = [replace(f, labels={**f.labels, "forces": rng.normal(size=(4, 3))}) for f in copper]
    (found,) = agreements(noise, {name: TABLE[name] for name in ("energy", "forces")})
    assert found.verdict == "undecided"


def test_responses_of_a_model_agree_with_each_other():
    """Polarization on any branch, Born charges, polarizability, Raman tensors; the order of indices matters."""
    names = ("energy", "forces", "polarization", "born_charges", "polarizability", "raman")
    model = build((TABLE["energy"],), (input_table()["electric_field"],))
    rng, structures, atoms = np.random.default_rng(2), [], solid()
    atoms.info["electric_field"] = np.zeros(3)
    for k in range(7):
        atoms.positions += 0.02 * rng.normal(size=(2, 3))
        copy = atoms.copy()
        copy.info = {}
        for name, value in contract.results(model, atoms, names=list(names)).items():
            copy.info[name] = value[0] if model.properties[name].scope == "structure" else value
        copy.info["polarization"] = copy.info["polarization"] + (k % 3 - 1) * atoms.cell.array[k % 2]
        structures.append(copy)
    labelled = frames(names, structures)
    rows = {name: TABLE[name] for name in names}
    found = {(a.slope, a.of): a for a in agreements(labelled, rows)}
    assert set(found) == {("forces", "energy"), ("born_charges", "polarization"), ("raman", "polarizability")}
    for agreement in found.values():
        assert agreement.ratio == pytest.approx(1.0, abs=0.05), agreement
        assert agreement.correlation > 0.99
    turned = [
        replace(f, labels={**f.labels, "born_charges": f.labels["born_charges"].swapaxes(1, 2)}) for f in labelled
    ]
    wrong = {a.slope: a for a in agreements(turned, rows)}["born_charges"]
    assert wrong.correlation < found["born_charges", "polarization"].correlation


NAMES = ("energy", "forces", "virial", "hessian", "internal_strain", "polarization", "polarizability", "born_charges")


def in_fields(step: float) -> list[Frame]:
    """A model's labels while atoms move and the field changes; the last one is in a field far away."""
    model = build((TABLE["energy"],), (input_table()["electric_field"],))
    rng, structures, atoms = np.random.default_rng(3), [], solid()
    for k in range(9):
        atoms.positions += 0.004 * rng.normal(size=(2, 3))
        copy = atoms.copy()
        field = step * (np.array([k, -k, 0.0]) + rng.normal(size=3)) + 5.0 * (k == 8)
        copy.info = {"electric_field": field}
        for name, value in contract.results(model, copy, names=list(NAMES)).items():
            copy.info[name] = value[0] if model.properties[name].scope == "structure" else value
        structures.append(copy)
    labels, field = [Label(TABLE[name]) for name in NAMES], Label(input_table()["electric_field"])
    return frames_from([(f"frame {k}", atoms) for k, atoms in enumerate(structures)], labels, [field])


@pytest.fixture(scope="module")
def changing() -> list[Frame]:
    return in_fields(0.01)


def test_changes_with_fields_and_positions_are_told_apart(changing):
    """Every label is compared along each variable it is a derivative with respect to, with its own indices."""
    found = {(a.slope, a.of): a for a in agreements(changing, {name: TABLE[name] for name in NAMES})}
    assert set(found) == {
        ("forces", "energy"),
        ("polarization", "energy"),
        ("hessian", "forces"),
        ("born_charges", "forces"),
        ("polarizability", "polarization"),
        ("born_charges", "polarization"),
    }
    for agreement in found.values():
        assert agreement.verdict == "as expected", agreement
        assert agreement.ratio == pytest.approx(1.0, abs=0.05), agreement
    assert {agreement.pairs for agreement in found.values()} == {7 + 6 + 5 + 4 + 3}, "not with the field far away"


def test_the_label_that_is_wrong_is_named(changing):
    """A field of the other sign leaves the forces as they should be."""
    turned = [replace(f, inputs={name: -value for name, value in f.inputs.items()}) for f in changing]
    found = {(a.slope, a.of): a.verdict for a in agreements(turned, {name: TABLE[name] for name in NAMES})}
    assert found["polarization", "energy"] == found["polarizability", "polarization"] == "opposite sign"
    assert found["forces", "energy"] == found["hessian", "forces"] == "as expected"


def test_the_first_index_of_internal_strain_is_the_displacement():
    (found,) = agreements(in_fields(0.0), {name: TABLE[name] for name in ("virial", "internal_strain")})
    assert (found.slope, found.of) == ("internal_strain", "virial")
    assert found.ratio == pytest.approx(1.0, abs=0.1)
    assert found.correlation > 0.95


def test_frames_in_other_fields_are_not_compared_without_a_slope(changing):
    assert agreements(changing, {name: TABLE[name] for name in ("virial", "internal_strain")}) == ()


def test_too_few_pairs_or_labels_are_not_compared(copper):
    rows = {name: TABLE[name] for name in ("energy", "forces")}
    assert agreements(copper[:2], rows) == ()
    assert agreements(copper, {"forces": TABLE["forces"]}) == ()
    assert agreements([], rows) == ()


def polar(sign: float, pbc: bool = False) -> list[Frame]:
    """Water whose charges are those of the atoms, in fields; the polarizability changes from frame to frame."""
    rng, structures = np.random.default_rng(2), []
    for _ in range(20):
        atoms = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[9, 9, 9], pbc=pbc)
        atoms.positions += 0.1 * rng.normal(size=(3, 3))
        field, alpha = 0.3 * rng.normal(size=3), np.diag(rng.uniform(1.0, 1.5, size=3))
        dipole = np.array([-0.6, 0.3, 0.3]) @ atoms.positions + 0.0694461547845 * alpha @ field
        atoms.info.update(electric_field=sign * field, polarizability=alpha, dipole=dipole)
        structures.append(atoms)
    labels, field = [Label(TABLE["dipole"]), Label(TABLE["polarizability"])], Label(input_table()["electric_field"])
    return frames_from([(f"frame {k}", atoms) for k, atoms in enumerate(structures)], labels, [field])


@pytest.mark.parametrize(("sign", "verdict"), [(1.0, "as expected"), (-1.0, "opposite sign")])
def test_dipoles_follow_fields(sign, verdict):
    (found,) = responses(polar(sign))
    assert (found.of, found.verdict, found.pairs) == ("dipole", verdict, 20)
    assert found.ratio == pytest.approx(sign, rel=1e-6)


def test_dipoles_of_cells_and_of_few_molecules_are_not_compared():
    assert responses(polar(1.0, pbc=True)) == ()
    assert responses(polar(1.0)[:2]) == ()
