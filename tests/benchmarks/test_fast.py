"""The comparison with SNAP, in LAMMPS on few atoms."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import fast
from carten.workflows.systems import find_system

pytestmark = [pytest.mark.needs("lammps"), pytest.mark.needs("cpp")]

SMALL = {"carten": {"n_channels": 4, "l_max_edges": 1, "correlation_order": 2}}


def test_each_potential_has_a_time():
    times = fast.measure(find_system("water:40"), rounds=1, steps=20, models=SMALL)
    assert list(times) == ["carten", *fast.SNAP]
    assert all(np.isfinite(time) and time > 0 for time in times.values())
    assert fast.table({"water": times}).count("\n") == 4


def test_the_processor_counts_and_failures_are_errors():
    turn = "98.5% CPU use with 1 MPI tasks x 1 OpenMP threads\nPair    | 2.0        | 2.0 | 2.0 | 0.0 | 99.9\n"
    assert fast.pair_microseconds(turn + turn, 100, 10) == pytest.approx(2.0 * 0.985 / 1000 * 1e6)
    with pytest.raises(ValueError, match=r"(?s)LAMMPS failed.*ERROR: no such pair style"):
        fast.pair_microseconds("ERROR: no such pair style", 100, 10)
