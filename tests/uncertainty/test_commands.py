"""carten committee and carten calibrate, as they are typed."""

import json

import ase.io
import numpy as np
import pytest

from carten.properties import io
from carten.report.folder import folder_page
from carten.uncertainty import load_ensemble
from small import labelled
from uncertainty.ensembles import plain_model


@pytest.fixture
def members(tmp_path):
    paths = [tmp_path / f"{name}.carten" for name in "ab"]
    for seed, path in enumerate(paths):
        io.save(path, plain_model(seed=seed, n_layers=1), {})
    ase.io.write(tmp_path / "held_out.extxyz", labelled(12))
    return paths


def test_a_committee_is_made_calibrated_evaluated_and_predicts(members, tmp_path, runner):
    committee, calibrated = tmp_path / "committee.carten", tmp_path / "calibrated.carten"
    data = tmp_path / "held_out.extxyz"
    assert "committee of 2 models" in runner("committee", *members, "-o", committee).output
    said = runner("calibrate", committee, data, "-o", calibrated, "--json", tmp_path / "summary.json").output
    assert "rank" in said and "calibrated model" in said
    scales = json.loads((tmp_path / "summary.json").read_text())["scales"]
    page = folder_page(tmp_path)
    assert 'Calibration <span class="name">summary.json</span>' in page
    assert page.count("errors within (%)") >= 2  # before and after
    assert load_ensemble(calibrated).uncertainty.scales == pytest.approx(scales)
    said = runner("info", calibrated).output
    assert "2 models; calibrated, scales: energy" in said
    report, table = tmp_path / "report.html", tmp_path / "atoms.csv"
    said = runner("evaluate", calibrated, data, "--report", report, "--atoms", table).output
    assert "rank" in said and "90 %" in said
    assert "absolute errors against uncertainties" in report.read_text()
    assert "forces_uncertainty (meV/Angstrom)" in table.read_text().splitlines()[0]
    runner("predict", calibrated, data, "-o", tmp_path / "predicted.extxyz")
    predicted = ase.io.read(tmp_path / "predicted.extxyz", ":")
    assert predicted[3].arrays["carten_forces_uncertainty"].shape == (9,)
    expected = load_ensemble(calibrated).scale("forces")
    bare = load_ensemble(committee)
    assert bare.scale("forces") == 1.0 and expected != 1.0


def test_a_plain_model_gets_a_posterior(members, tmp_path, runner):
    data, output = tmp_path / "held_out.extxyz", tmp_path / "posterior.carten"
    refused = runner("calibrate", members[0], data, "-o", output)
    assert refused.exit_code == 1 and "has no uncertainty to calibrate" in refused.output
    assert not output.exists()
    runner("calibrate", members[0], data, "--posterior", data, "--draws", "4", "-o", output)
    several = load_ensemble(output)
    assert (several.kind, several.n_members) == ("posterior", 4)
    assert several.uncertainty.facts["posterior_of"] == 12
    np.testing.assert_array_equal(
        several.model.network.embedding.numpy(), io.load(members[0]).network.embedding.numpy()
    )


def test_nothing_is_overwritten(members, tmp_path, runner):
    refused = runner("committee", *members, "-o", members[0])
    assert refused.exit_code == 1 and "exists already" in refused.output


def test_a_committee_can_not_be_exported(members, tmp_path, runner):
    runner("committee", *members, "-o", tmp_path / "committee.carten")
    refused = runner("export", tmp_path / "committee.carten", "-o", tmp_path / "model.so")
    assert refused.exit_code == 1 and "take one of the models it was made of" in refused.output
