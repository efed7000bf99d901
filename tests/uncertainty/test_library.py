"""What compiled libraries have of uncertainties: deviations of the energies of atoms."""

import numpy as np
import pytest

from carten.data.neighbours import edges, graph
from carten.deploy import PairList, deploy
from carten.deploy.deviations import DEVIATIONS
from small import ethanol
from uncertainty.ensembles import ensemble, plain_model


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


def test_libraries_of_plain_models_have_none():
    assert DEVIATIONS not in deploy(plain_model()).readouts
