"""The benchmark against other codes, run with carten alone."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.peers import catalogue, foresight, measure, report, structures, tables  # noqa: E402  not in the package
from benchmarks.peers.codes import common  # noqa: E402
from benchmarks.peers.records import Records, done  # noqa: E402
from benchmarks.peers.settings import Settings  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("peers")


SMALL = Settings(channels=4, l_features=1, l_edges=1, correlation=2, layers=1)
CODES = [replace(code, environment="") for code in catalogue.CODES if code.name == "carten"]


def plan(folder, minutes=100.0):
    """One thread, two short turns, all files in a folder."""
    return measure.Plan(folder, 1, 2, 0.01, "wall", 500.0, minutes, folder / "results.json")


def todo():
    octanol = structures.systems(None)[0]
    return [measure.Group("infer", "infer", octanol, SMALL), measure.Group("train", "train", octanol, SMALL)]


@pytest.fixture(scope="module")
def records(folder):
    assert measure.compile_first(plan(folder), CODES, todo())
    assert measure.measure(plan(folder), CODES, todo())
    return Records(folder / "results.json").all


def test_a_run_measures_time_memory_and_start(records):
    assert [(record["task"], record["n_atoms"]) for record in records] == [("infer", 27), ("train", 135)]
    for record in records:
        assert record["model"] == "carten"
        assert record["repeats"] >= 2
        assert 0.0 < record["us_per_atom_min"] <= record["us_per_atom"]
        assert record["us_per_atom_wall"] == record["us_per_atom"]
        assert record["peak_memory_mb"] > record["base_memory_mb"] - 1.0 > 0.0  # the system counts pages a little late
        assert min(record["first_start_seconds"], record["start_seconds"]) > 0.0  # the machine may be busy


def test_a_run_goes_on_where_the_last_one_ended(folder, records):
    late = plan(folder, minutes=-1.0)
    assert measure.measure(late, CODES, todo()), "nothing was left to do"
    measure.forget(late, CODES, todo()[1:])
    assert not measure.measure(late, CODES, todo())
    assert Records(late.output).all == records[:1]


def test_the_command_says_what_is_left(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--codes",
        "carten",
        "--cache",
        str(tmp_path),
        "--minutes",
        "-1",
    ]
    command += ["--kinds", "infer", "--largest", "30", "--steps", "measure", "--output", str(tmp_path / "results.json")]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "run the same command" in ended.stderr
    ended = subprocess.run(
        [*command, "--clock", "processor", "--threads", "2"], check=False, cwd=ROOT, capture_output=True
    )
    assert b"--threads 1" in ended.stderr


def test_one_record_for_each_task(tmp_path, records):
    kept = Records(tmp_path / "results.json")
    for record in (*records, {**records[0], "us_per_atom": 1.0}):
        kept.put(record)
    assert Records(kept.path).all == [records[1], {**records[0], "us_per_atom": 1.0}]
    assert Records(kept.path).find(records[0])["us_per_atom"] == 1.0
    assert [done(record) for record in ({}, {"error": "out of memory"}, records[0])] == [False, True, True]


def test_what_does_not_fit_is_not_tried(monkeypatch, records):
    small = {**records[0], "us_per_atom": 1e4, "base_memory_mb": 100.0, "peak_memory_mb": 127.0}
    monkeypatch.setattr(foresight, "available_memory", lambda: 4000.0)
    assert foresight.foreseen([small], {**small, "n_atoms": 2000}) == ""
    assert foresight.foreseen([small], {**small, "n_atoms": 5000}) == "not run: needs about 5 GB"
    monkeypatch.setattr(foresight, "available_memory", lambda: float("inf"))
    assert foresight.foreseen([small], {**small, "n_atoms": 7000}) == "not run: takes about 70 s"
    assert foresight.foreseen([small], {**small, "n_atoms": 7000, "model": "MACE"}) == ""
    failed = {key: small[key] for key in foresight.SAME} | {"n_atoms": 3000, "error": "out of memory"}
    assert foresight.foreseen([small, failed], {**small, "n_atoms": 7000}) == "out of memory"
    assert foresight.available_memory() > 0.0


def test_tables_show_ratios_and_what_failed(records):
    slow = {**records[0], "model": "MACE", "us_per_atom": 3.0 * records[0]["us_per_atom"], "version": "1.2"}
    failed = {**records[0], "model": "TACE", "error": "out of memory", "version": "0.1"}
    del failed["us_per_atom"], failed["peak_memory_mb"]
    text = tables.tables([*records, slow, failed])
    assert "(3.0 ×)" in text
    assert "| TACE | out of memory |" in text
    assert "| MACE | 1.2 |" in text
    assert "with AVX" in text or "cores;" in text


def test_compiled_code_does_the_work_of_its_eager_variant(records):
    train = {**records[1], "us_per_atom": 10.0, "n_atoms": 100}
    eager = {**train, "model": "NequIP", "multiply_adds": 2e9}
    compiled = {**eager, "model": "NequIP compiled", "us_per_atom": 5.0, "multiply_adds": 0.0}
    lines = tables.tables([train, compiled, eager]).splitlines()
    row = next(line for line in lines if line.startswith("| NequIP compiled |"))
    assert row.endswith("| 20 | 4000 |")


def test_the_work_of_training_is_counted(records):
    assert records[0]["multiply_adds"] == 0.0
    assert records[1]["multiply_adds"] > 1e6


def test_products_are_counted():
    x = torch.ones(3, 4, requires_grad=True)
    assert common.multiply_adds(lambda: x @ torch.ones(4, 5)) == 60
    assert common.multiply_adds(lambda: (x * x.detach()).sum().backward()) == 24
    assert common.multiply_adds(lambda: 2.0 * x + x) == 0


def test_the_scan_shows_both_axes(records):
    size = asdict(catalogue.PAPER)
    scan = [{**records[0], "kind": "scan", "settings": size | {"correlation": order}} for order in (1, 3)]
    scan += [{**records[0], "kind": "scan", "settings": size | {"l_features": l, "l_edges": l}} for l in (0, 4)]
    text = tables.tables(scan)
    heads = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| 64 channels")]
    assert heads == ["64 channels, L 0", "64 channels, L 4", "64 channels, ν 1", "64 channels, ν 3"]


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
