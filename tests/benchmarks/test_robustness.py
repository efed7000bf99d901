"""A small part of every attack, and that attacks see what they look for; more: `python -m benchmarks.robustness`."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.robustness import kinds, mutations  # noqa: E402  not in the package
from benchmarks.robustness.processes import Limits, run  # noqa: E402

INPUTS = {
    "extxyz": 60, "structures": 30, "configurations": 100, "trainings": 3, "models": 40, "checkpoints": 60,
    "commands": 20, "kills": 1, "kills of two": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    before = Path.cwd()
    try:
        return kinds.originals(folder)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_whatever_the_input_carten_answers(base, tmp_path, kind):
    """No traceback, no crash, no end without an answer, no other result."""
    torch.set_num_threads(1)
    result = run(kinds.KINDS[kind](base, 20261128), INPUTS[kind], 5, tmp_path, Limits(seconds=300.0))
    assert result.tried == INPUTS[kind]
    assert result.faults == 0, {place: tmp_path / str(number) for place, number in result.examples.items()}
    assert kind in ("trainings", "kills", "kills of two") or result.counts["clean error"] > 0


def attempt(number, folder):
    match number:
        case 1:
            raise KeyError("not an answer")
        case 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 3:
            time.sleep(1000)
        case 4:
            return "silent"
        case 5:
            bytearray(2**33)
    (folder / "file").write_text("x")
    return "accepted"


def test_faults_are_seen(tmp_path):
    result = run(attempt, 8, 1, tmp_path, Limits(seconds=2, memory=4 * 2**30))
    assert dict(result.counts) == {"accepted": 3, "traceback": 2, "crashed": 1, "over time": 1, "silent": 1}
    assert result.faults == 5
    assert "crashed: SIGSEGV" in result.places
    assert any("KeyError" in place for place in result.places)
    assert any("MemoryError" in place for place in result.places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3", "4", "5"]
    assert "not an answer" in (tmp_path / "1" / "traceback.txt").read_text()


def test_attempts_end_when_time_is_up(tmp_path):
    def slow(number, folder):
        time.sleep(0.2)
        return "accepted"

    result = run(slow, 1000, 1 / 60, tmp_path, Limits())
    assert 1 <= result.tried < 20


def test_inputs_are_those_of_seed_and_number():
    data = bytes(range(256)) * 4

    def changed(seed, change):
        return change(np.random.default_rng([seed, 7]), data)

    for change in (mutations.of_bytes, mutations.of_text):
        assert changed(1, change) == changed(1, change) != changed(2, change)
    document = {"a": [1, {"b": 2.0}], "c": "x"}
    made = [mutations.of_document(np.random.default_rng(n), document) for n in range(30)]
    assert len({repr(item) for item in made}) > 15
    assert document == {"a": [1, {"b": 2.0}], "c": "x"}
