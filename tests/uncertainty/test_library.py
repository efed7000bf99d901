"""What compiled libraries have of uncertainties: deviations of energies of atoms, of forces and of virials."""

import numpy as np
import pytest
import torch

from carten.data.neighbours import edges, graph
from carten.deploy import PairList, deploy
from carten.deploy.deviations import DEVIATIONS
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.physics.zbl import ZblConfig
from carten.properties.members import Uncertainty
from small import ethanol, oxide
from uncertainty.ensembles import ensemble, plain_model, posterior


@pytest.mark.parametrize("kind", ["readouts", "posterior"])
def test_the_norm_of_deviations_is_the_uncertainty_of_the_energy_of_an_atom(kind):
    several, atoms = ensemble(kind, {"energy": 1.7}, draws=21), ethanol()
    library = deploy(several.model)
    assert DEVIATIONS in library.readouts
    index, shift = edges(atoms.positions, atoms.cell.array, atoms.pbc, several.cutoff)
    pairs = PairList(*index, shift.astype(np.int32))
    results = library.evaluator(1).step(
        library.rows_of(atoms.numbers), atoms.positions, np.zeros((3, 3)), pairs, ["energies", DEVIATIONS]
    )
    expected = several(graph(atoms, several.cutoff, {}), ["energies", "energies_uncertainty"])
    np.testing.assert_allclose(results["energies"], expected["energies"], rtol=1e-5)
    norms = np.linalg.norm(results[DEVIATIONS], axis=1)
    np.testing.assert_allclose(norms, expected["energies_uncertainty"], rtol=1e-4)


@pytest.mark.parametrize(("kind", "n_layers"), [("readouts", 1), ("readouts", 2), ("posterior", 2), ("repulsion", 2)])
def test_forces_and_virials_of_deviations_are_what_members_differ_by(kind, n_layers):
    """Against members of the exact model, one gradient each by autograd; repulsion of nuclei is that of all members."""
    members, terms = (1, ()) if kind == "posterior" else (4, (ZblConfig(),) if kind == "repulsion" else ())
    model = plain_model(n_layers=n_layers, n_members=members, properties=("energy", "forces", "stress"), terms=terms)
    scales = {"energy": 1.7, "forces": 0.6, "stress": 0.3}
    model.uncertainty = posterior(model, 8, scales) if kind == "posterior" else Uncertainty(scales)
    library, atoms = deploy(model, exact=True), oxide()
    index, shift = edges(atoms.positions, atoms.cell.array, atoms.pbc, model.cutoff)
    pairs, rows = PairList(*index, shift.astype(np.int32)), library.rows_of(atoms.numbers)
    expected = [*model.members(graph(atoms, model.cutoff, {}), ["forces", "virial"])]
    forces, virial = (torch.stack([member[name] for member in expected]).numpy() for name in ("forces", "virial"))
    names = ["forces_deviations", "virial_deviations"]
    for threads in (1, 2):
        results = library.evaluator(threads).step(rows, atoms.positions, atoms.cell.array, pairs, names)
        spread = np.sqrt(np.square(results["forces_deviations"]).sum(axis=0).mean(axis=1))
        np.testing.assert_allclose(spread, 0.6 * np.sqrt(forces.var(axis=0, ddof=1).mean(axis=1)), rtol=1e-10)
        spread = np.sqrt(np.square(results["virial_deviations"]).sum(axis=0).mean())
        np.testing.assert_allclose(spread, 0.6 * np.sqrt(virial.var(axis=0, ddof=1).mean()), rtol=1e-10)
    assert results["energies"].shape == (3,) and {*results} == {"energies", *names}


@pytest.mark.parametrize("kind", ["readouts", "posterior"])
def test_a_library_is_a_calculator_with_uncertainties(kind, tmp_path):
    """Those of a library file, which has no other model behind it, and of the ensemble are the same."""
    several, atoms = ensemble(kind, {"energy": 1.7, "forces": 0.6, "stress": 0.3}), oxide()
    (tmp_path / "model.so").write_bytes(deploy(several.model).content)
    calculator, same = Calculator(tmp_path / "model.so"), Calculator(several)
    names = ["forces_uncertainty", "stress_uncertainty", "virial_uncertainty"]
    names += ["energy_uncertainty", "energies_uncertainty"] if kind == "readouts" else []
    expected = several(graph(atoms, several.cutoff, {}), names)
    for name in names:
        for each in (calculator, same):
            np.testing.assert_allclose(each.get_property(name, atoms), np.squeeze(expected[name]), rtol=3e-5)
            assert each.path == "library"
    assert calculator.get_property("forces_uncertainty", atoms).shape == (3,)
    assert "forces_uncertainty (eV/" in calculator._repr_html_()


def test_libraries_of_plain_models_have_none():
    library, atoms = deploy(plain_model()), ethanol()
    assert DEVIATIONS not in library.readouts and not library.n_deviations
    assert not [row for row in library.header["rows"] if "uncertainty" in row["name"]]
    none = PairList(*np.zeros((2, 0), np.int64), np.zeros((0, 3), np.int32))
    with pytest.raises(ModelError, match="has no members that share a network"):
        library.evaluator(1).step(
            library.rows_of(atoms.numbers), atoms.positions, np.zeros((3, 3)), none, ["forces_deviations"]
        )
