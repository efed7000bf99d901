"""The script for GPUs, run on the CPU with a small model."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import gpu

SMALL = {"small": {"n_channels": 8, "n_layers": 1, "l_max_edges": 1, "l_max_features": 0, "correlation_order": 2}}


def session(folder, minutes=1.0):
    return gpu.Session(torch.device("cpu"), time.monotonic() + 60 * minutes, 2, folder / "gpu")


def test_checks_times_and_writes(tmp_path):
    assert gpu.measure(session(tmp_path), [24], SMALL)
    results = json.loads((tmp_path / "gpu.json").read_text())
    (check,), (inference, *_), (training,) = results["check"], results["inference"], results["training"]
    assert max(check[name] for name in ("energy", "forces", "gradients")) < 1e-12
    assert inference["us_per_atom"] * inference["atoms"] == pytest.approx(1e3 * inference["ms"])
    assert training["structures"] == 16
    assert training["ms"] >= training["least_ms"] > 0
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert sum(line.startswith("| small |") for line in lines) == 3


def test_wrong_kernels_and_no_time_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "TOLERANCE", -1.0)
    assert not gpu.measure(session(tmp_path, minutes=0.2), [24], SMALL)
    assert "the kernels are wrong" in (tmp_path / "gpu.md").read_text()
    gpu.measure(session(tmp_path, minutes=-1.0), [24], SMALL)
    assert "no time was left" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="needs a CUDA device, and there is none"):
        gpu.main(["--output", str(tmp_path / "gpu")])
    assert not list(tmp_path.iterdir())
