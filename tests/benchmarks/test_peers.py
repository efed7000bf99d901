"""The benchmark against other codes, run with carten alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.peers import report, structures  # noqa: E402  outside of the package and of tests


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    output = folder / "results.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--steps",
        "measure",
        "--codes",
        "carten",
        "--cache",
        str(folder),
    ]
    options = ["--kinds", "infer", "train", "--largest", "30", "--rounds", "2", "--seconds", "0.01", "--threads", "1"]
    subprocess.run([*command, *options, "--output", str(output)], check=True, cwd=ROOT)
    return json.loads(output.read_text())


def test_a_run_measures_time_and_memory(records):
    assert [(record["task"], record["n_atoms"]) for record in records] == [("infer", 27), ("train", 135)]
    for record in records:
        assert record["model"] == "carten"
        assert record["repeats"] >= 2
        assert 0.0 < record["us_per_atom_min"] <= record["us_per_atom"]
        assert record["peak_memory_mb"] >= record["base_memory_mb"] > 0.0


def test_tables_show_ratios_and_what_failed(records):
    slow = {**records[0], "model": "MACE", "us_per_atom": 3.0 * records[0]["us_per_atom"], "version": "1.2"}
    failed = {**records[0], "model": "TACE", "error": "out of memory", "version": "0.1"}
    del failed["us_per_atom"], failed["peak_memory_mb"]
    text = report.tables([*records, slow, failed])
    assert "(3.0 ×)" in text
    assert "| TACE | out of memory |" in text
    assert "| MACE | 1.2 |" in text


def test_figures_are_written(records, tmp_path):
    report.by_size(records, tmp_path / "size.svg")
    report.by_rank_and_order([{**record, "kind": "scan"} for record in records], tmp_path / "scan.svg")
    assert all((tmp_path / name).read_text().startswith("<?xml") for name in ("size.svg", "scan.svg"))


def test_structures_are_what_is_said():
    found = structures.systems(None)
    assert [(system.name, len(system.atoms)) for system in found] == [
        ("octanol", 27), ("water", 192), ("water", 1536), ("water", 5184)
    ]  # fmt: skip
    assert found[0].atoms.get_chemical_formula() == "C8H18O"
    for system in found[:2]:
        distances = system.atoms.get_all_distances(mic=True)
        assert np.sort(distances[np.triu_indices(len(system.atoms), 1)])[0] > 0.9
    density = found[1].atoms.get_masses().sum() / found[1].atoms.get_volume() / 0.6022
    assert density == pytest.approx(1.0, abs=0.01)


def test_an_empty_folder_of_structures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="extxyz"):
        structures.systems(tmp_path)
