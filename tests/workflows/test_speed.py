"""Speed: what is counted, what is timed, and the structures."""

import mmap
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from carten.data.neighbours import graph
from carten.errors import ConfigError
from carten.model.config import NetworkConfig
from carten.ops.cost import cost
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table
from carten.workflows import speed
from carten.workflows.speed import BENCHED, BenchedModel, measure, peak
from carten.workflows.systems import find_system
from carten.workflows.work import count, per_atom, sample
from small import ethanol, small_model

CPU = torch.device("cpu")


def by_name(operators):
    return {operator.name: operator for operator in operators}


def untabulated(**changes):
    network = {"n_layers": 2, "n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2}
    config = NetworkConfig.model_validate({**network, "cutoff": 4.0, "radial": {"hidden": (8,)}, **changes})
    rows = [property_table()[name] for name in BENCHED]
    return Potential(config, (1, 6, 8), rows, backend="reference").freeze()


def test_the_work_of_scalars_by_hand():
    """One path of scalars: ``M = Y_0`` once, ``T = M h`` and ``A += R T`` for each channel of each edge."""
    model = untabulated(l_max_edges=0, l_max_features=0)
    system = graph(ethanol(), model.cutoff)
    found = by_name(count(model, system, BENCHED))
    assert found["interaction 1, 2"].multiply_adds == 2 * system.n_edges * (1 + 2 * 4)
    layer = model.network.layers[1]
    assert found["product 1, 2"].multiply_adds == 2 * system.n_atoms * cost(layer.product.plan).multiply_adds(4)
    read, written = system.n_atoms * 4 + system.n_edges * (1 + 4), system.n_atoms * 4
    assert found["interaction 1, 2"].bytes == 2 * 8 * (read + written)


@pytest.mark.parametrize("kind", [{}, {"product": {"weights": "coupled"}}, {"product": {"kind": "spatial"}}])
def test_matrix_products_are_those_that_torch_counts(kind):
    model = untabulated(**kind)
    system = graph(ethanol(), model.cutoff)
    with FlopCounterMode(display=False) as counter:
        model(system, BENCHED)
    found = by_name(count(model, system, BENCHED))
    assert found["linear maps"].multiply_adds == counter.get_total_flops() / 2 > 0


def test_every_plan_and_its_gradient_belong_to_an_operator():
    model = untabulated()
    names = {operator.name for operator in count(model, graph(ethanol(), model.cutoff), BENCHED)}
    heavy = {f"{kind} {layer}" for kind in ("interaction", "product") for layer in (1, 2)} | {"harmonics"}
    assert names == heavy | {f"gradient of {name}" for name in heavy} | {"embedding", "linear maps", "rest"}


def test_work_per_atom_does_not_depend_on_the_number_of_atoms():
    model = untabulated()
    small, large = (
        sum(operator.multiply_adds for operator in count(model, sample(model, n), BENCHED)) / n for n in (32, 64)
    )
    assert small == large == per_atom(model).multiply_adds
    assert per_atom(model).name == "energy and forces"


def test_tables_of_radial_functions_do_not_count():
    model = untabulated().train()
    assert model.network.choose_tables() > 0
    small, large = (by_name(count(model, sample(model, n), BENCHED)) for n in (32, 64))
    assert {name: work.multiply_adds / 32 for name, work in small.items()} == {
        name: work.multiply_adds / 64 for name, work in large.items()
    }


def test_work_of_a_model_that_is_told_something():
    rows = [property_table()["charges"]]
    config = NetworkConfig.model_validate({"n_layers": 1, "n_channels": 4, "l_max_edges": 1, "l_max_features": 1})
    inputs = [input_table()[name] for name in ("total_charge", "electric_field")]
    work = per_atom(Potential(config, (1, 8), rows, inputs=inputs, backend="reference").freeze())
    assert work.name == "charges"
    assert work.multiply_adds > 0


def test_models_are_measured_in_turns():
    model = small_model(properties=BENCHED)
    subjects = [BenchedModel("first", model, "auto"), BenchedModel("second", untabulated(), "reference")]
    first, second = measure(subjects, ethanol(), "ethanol", 0.0)
    assert (first.model, second.model, second.backend) == ("first", "second", "reference")
    for timing in (first, second):
        assert timing.us_per_atom * timing.atom_steps_per_second == pytest.approx(1e6)
        work = sum(share.multiply_adds_per_atom for share in timing.operators)
        assert timing.multiply_adds_per_atom == pytest.approx(work)
        expected = 2 * work / (timing.us_per_atom * 1e-6) / (timing.peak_gflops * 1e9)
        assert timing.peak_fraction == pytest.approx(expected)
        assert sum(share.share for share in timing.operators) == pytest.approx(1.0)



@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_peak_is_that_of_the_fastest_product_of_matrices(monkeypatch, dtype):
    """By a clock for which the products take 4, 1 and 2 s: two operations for each of SIZE^3 multiply-adds in 1 s."""
    readings = iter([0.0, 4.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(readings))
    with FlopCounterMode(display=False) as counter:
        found = peak(dtype, CPU)
    assert found == counter.get_total_flops() / 4  # three products and one before the clock starts


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is that of Linux")
def test_memory_is_the_peak_of_the_process_since_it_was_forgotten():
    """200 MB that are written and freed again raise the mark by 200 MB, and only until it starts anew.

    They are mapped: what the C library hands out may be memory that it kept.
    """
    speed.forget_peak_memory(CPU)
    before = speed.peak_memory(CPU)
    with mmap.mmap(-1, 200_000_000) as memory:
        for _ in range(200):
            memory.write(bytes(1_000_000))
    raised = speed.peak_memory(CPU) - before
    speed.forget_peak_memory(CPU)
    assert raised == pytest.approx(200e6, rel=0.05)
    assert speed.peak_memory(CPU) - before < 100e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is that of Linux")
def test_the_memory_of_a_timing_is_that_of_the_process():
    """At least what is resident before, at most what ever was; both in 10^6 bytes."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    (timing,) = measure([BenchedModel("first", small_model(properties=BENCHED), "auto")], ethanol(), "ethanol", 0.0)
    highest = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 0.9 * resident <= 1e6 * timing.peak_memory_mb <= 1.01 * highest


def test_systems_have_the_density_and_the_atoms_that_are_asked_for():
    water = find_system("water:30")
    assert water.get_chemical_formula() == "H60O30"
    assert water.get_masses().sum() / water.get_volume() / 0.6022 == pytest.approx(1.0, abs=0.01)
    diamond = find_system("carbon:60")
    assert len(diamond) == 64
    assert np.linalg.norm(diamond.positions - find_system("carbon:60").positions) == 0.0
    with pytest.raises(ConfigError, match="water:N"):
        find_system("water:0")
