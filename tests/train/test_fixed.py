"""Fixed terms in training: subtracted from labels once, part of the model, added back once."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

import contract
from carten import datasets
from carten.data.labels import Label, frames_from, read_frames
from carten.data.neighbours import graph
from carten.data.remainder import without
from carten.errors import DataError, ModelError
from carten.physics.dispersion import D3Config, D4Config
from carten.physics.zbl import ZblConfig
from carten.properties.fixed import Fixed
from carten.properties.io import header, load, save
from carten.properties.routes import Readout
from carten.properties.spec import property_table
from carten.train.config import Config
from carten.train.run import train
from carten.train.sets import read_sets
from carten.train.terms import terms
from carten.workflows.evaluate import evaluate
from small import ethanol, labelled, slab, small_model

TERMS = [{"kind": "zbl", "cutoff": 3.4}, {"kind": "d3", "functional": "pbe", "cutoff": 8.0}]
CONFIGS = (ZblConfig(cutoff=3.4), D3Config(functional="pbe", cutoff=8.0))
PROPERTIES = {"energy": {}, "forces": {}, "stress": {}}


def labels(*names):
    return [Label(property_table()[name]) for name in names]


def test_a_run_measures_what_the_saved_model_does(configure, alloys):
    """Were the terms forgotten or added twice, the errors of the file would be those of the terms: tens of eV."""
    config = configure(terms=TERMS, properties=PROPERTIES, training={"epochs": 1}, dtype="float64")
    result = train(config)
    assert [term["kind"] for term in header(result.model)["terms"]] == ["zbl", "d3"]
    wanted = terms(config.properties)
    sets = read_sets(config, wanted)
    whole = {frame.where: frame for frame in read_frames([alloys], labels(*PROPERTIES))}
    frames = [whole[frame.where] for frame in sets.validation.frames]
    found = evaluate(load(result.model), frames).summary()["properties"]
    for name in PROPERTIES:
        assert found[name]["rmse"] == pytest.approx(result.validation[f"{name}_rmse"], rel=1e-6), name
    shares = [abs(whole[frame.where].labels["energy"] - frame.labels["energy"]) for frame in sets.validation.frames]
    assert min(shares) > 1.0, "the terms have a share that is seen"


def test_terms_of_all_kinds_together(tmp_path):
    """None knows another: fixed ones are subtracted, learned ones trained, and the file gives the sum."""
    frames = [atoms for atoms in ase.io.read(datasets.path("ethanol_xtb_train"), index="::80") if len(atoms) > 1]
    ase.io.write(tmp_path / "train.extxyz", frames[4:])
    ase.io.write(tmp_path / "validation.extxyz", frames[:4])
    document = {
        "data": {"train": str(tmp_path / "train.extxyz"), "validation": [str(tmp_path / "validation.extxyz")]},
        "model": {"n_channels": 2, "n_layers": 1, "l_max_edges": 1, "l_max_features": 1, "cutoff": 4.0},
        "properties": {"energy": {}, "forces": {}, "charges": {"route": "equalised"}},
        "inputs": {"total_charge": {"default": 0.0}},
        "terms": [{"kind": "zbl"}, {"kind": "d4", "functional": "pbe"}, {"kind": "charges"}, {"kind": "les"}],
        "training": {"epochs": 1, "accelerator": "cpu", "ema": 0.9},
        "dtype": "float64",
        "output": str(tmp_path / "run"),
    }
    result = train(Config.parse(document))
    model = load(result.model)
    names = ("energy", "forces", "charges")
    told = [Label(model.inputs["total_charge"], required=False)]
    found = evaluate(model, read_frames([tmp_path / "validation.extxyz"], labels(*names), told)).summary()["properties"]
    for name in names:
        assert found[name]["rmse"] == pytest.approx(result.validation[f"{name}_rmse"], rel=1e-6), name


def test_statistics_are_those_of_the_rest(configure):
    """Reference energies are fitted to what the network has to learn."""
    plain, rest = (
        read_sets(config, terms(config.properties)).references[0]
        for config in (configure(terms=given, reference_energies="fitted") for given in ([], TERMS))
    )
    assert all(plain[z] - rest[z] > 0.3 for z in (29, 79)), "repulsion is not in the reference energies"


def test_what_is_subtracted_is_what_the_model_adds():
    model = small_model(properties=("energy", "forces"), terms=CONFIGS).to(torch.float64)
    seen = graph(ethanol(), 4.0)
    names = ["energies", "energy", "forces", "virial", "hessian"]
    fixed = Fixed(CONFIGS, model.config, model.elements, [property_table()[name] for name in names], ())
    whole, rest, shares = model(seen, names), model.remainder(seen, names), fixed.values(seen, names)
    for name in names:
        assert float(shares[name].abs().max()) > 1e-3
        assert torch.allclose(rest[name] + shares[name], whole[name], atol=1e-9), name


def test_nothing_is_left_of_labels_that_are_the_term():
    """Labels by the calculator of the library, another way to D3."""
    from dftd3.ase import DFTD3

    atoms = ethanol()
    atoms.calc = DFTD3(method="PBE", damping="d3bj")
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    (frame,) = frames_from([("ethanol", atoms)], labels("energy", "forces"))
    rows = [property_table()[name] for name in ("energy", "forces")]
    config = small_model().config
    (rest,) = without(Fixed([D3Config(functional="pbe")], config, (1, 6, 8), rows, ()), [frame], 4.0)
    assert abs(frame.labels["energy"]) > 0.1
    assert abs(rest.labels["energy"]) < 1e-8
    assert abs(rest.labels["forces"]).max() < 1e-8


def test_labels_that_do_not_follow_from_the_energy_stay():
    direct = replace(property_table()["forces"], routes=(Readout(),))
    rows = [property_table()["energy"], direct]
    (frame,) = frames_from([("ethanol", labelled(1)[0])], [Label(row) for row in rows])
    (rest,) = without(Fixed([ZblConfig()], small_model().config, (1, 6, 8), rows, ()), [frame], 4.0)
    assert rest.labels["energy"] != frame.labels["energy"]
    assert np.array_equal(rest.labels["forces"], frame.labels["forces"])


def test_learned_models_take_dispersion_later(tmp_path):
    plain, model = (small_model(properties=("energy", "forces")) for _ in range(2))
    assert "virials" in model.properties
    model.add(D3Config(functional="pbe"))
    save(tmp_path / "model.carten", model, {})
    again = load(tmp_path / "model.carten")
    atoms, trained = ethanol(), small_model(properties=("energy", "forces"), terms=(D3Config(functional="pbe"),))
    expected = contract.results(trained, atoms, names=["energy", "forces"])
    for found in (model, again):
        contract.require_equal("added", contract.results(found, atoms, names=["energy", "forces"]), expected)
        assert "virials" not in found.properties, "which the energy of d3 does not divide into"
    assert contract.results(plain, atoms)["energy"][0] - expected["energy"][0] > 0.05


@pytest.mark.parametrize(
    ("there", "more", "expected"),
    [
        ((ZblConfig(),), ZblConfig(cutoff=1.0), "zbl is listed twice; keep one"),
        ((), D3Config(functional="pbe"), "d4 and d3 both add dispersion; keep one"),
        ((), ZblConfig(), "zbl must be there in training"),
    ],
)
def test_terms_are_not_added_twice(there, more, expected):
    model = small_model(properties=("energy",), terms=there)
    require_refused(model, more, expected)


def require_refused(model, more, expected):
    """An error, which leaves the model as it was."""
    before = contract.results(model, ethanol())
    with pytest.raises(ModelError, match=expected):
        model.add(D4Config(functional="pbe"), more)
    assert len(model.terms) == len(model.term_configs)
    contract.require_equal("refused", contract.results(model, ethanol()), before)


def test_virials_that_are_asked_for_forbid_dispersion():
    model = small_model(properties=("energy", "virials"))
    require_refused(model, ZblConfig(), "'virials': the energy of d4 does not divide")


def test_structures_a_term_is_not_for_are_named():
    atoms = slab()
    atoms.info["energy"] = -1.0
    (row,) = rows = [property_table()["energy"]]
    (frame,) = frames_from([("slabs.xyz, frame 7", atoms)], [Label(row)])
    fixed = Fixed([D4Config(functional="pbe")], small_model().config, (8,), rows, ())
    with pytest.raises(DataError, match=r"slabs.xyz, frame 7: d4: .* found pbc \[True, True, False\]: use d3"):
        without(fixed, [frame], 4.0)
