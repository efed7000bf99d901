"""The demo, cut short: everything it promises is there."""

import json

import ase.io


def test_the_demo_trains_evaluates_runs_and_reports(run, tmp_path, monkeypatch):
    """Into the first folder that is free."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    folder = tmp_path / "demo-2"
    said = run("demo", "--minutes", 0.2)
    assert said.code == 0, said.err
    assert str(folder / "report.html") in said.out
    errors = json.loads((folder / "errors.json").read_text())
    assert errors["structures"] == 300
    forces = errors["properties"]["forces"]
    assert 0 < forces["rmse"] < forces["spread"]  # the error of a model that predicts the mean
    assert len(ase.io.read(folder / "md.extxyz", ":")) == 101
    report = (folder / "report.html").read_text()
    for part in ("best.carten", "Loss over the epochs", "Worst structures", "test.xyz.gz, frame"):
        assert part in report
