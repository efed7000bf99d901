"""The C++ back end against the reference: values, derivatives, shapes, threads."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from carten.ops.library import evaluate
from carten.ops.plan import Operand, Plan, Step
from carten.ops.threads import leave_to_kernels, only_kernels, thread_count
from ops.plans import random_indices, random_operands, random_plan

pytestmark = pytest.mark.needs("cpp")

VALUES = 1e-12
DERIVATIVES = 1e-10


def close(found, expected, tolerance):
    """Largest difference, relative to the largest number in the expected tensors."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        if b.numel():
            assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def both(plan, operands, indices, n_sites):
    return [evaluate(plan, operands, indices, n_sites, backend) for backend in ("cpp", "reference")]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("channels", [1, 8, 37])
def test_values_of_random_plans(seed, channels):
    plan = random_plan(seed)
    indices = random_indices(11, seed)
    close(*both(plan, random_operands(plan, 11, indices, channels, seed), indices, 11), VALUES)


def derivatives(plan, operands, indices, n_sites, backend, order):
    """Values, and random contractions of the derivatives of each order, by repeated reverse mode."""
    g = torch.Generator().manual_seed(5)
    leaves = [x.clone().requires_grad_() for x in operands]
    current = evaluate(plan, leaves, indices, n_sites, backend)
    found = [*current]
    for _ in range(order):
        scalar = sum((x * torch.randn(x.shape, generator=g, dtype=x.dtype).to(x.device)).sum() for x in current)
        if not scalar.requires_grad:
            break
        gradients = torch.autograd.grad(scalar, leaves, create_graph=True, materialize_grads=True)
        current = gradients
        found += gradients
    return [x.detach() for x in found]


@pytest.mark.parametrize("seed", range(6))
def test_three_derivatives_of_random_plans(seed):
    plan = random_plan(seed, n_steps=5, max_terms=6)
    indices = random_indices(7, seed)
    operands = random_operands(plan, 7, indices, 9, seed)
    close(*(derivatives(plan, operands, indices, 7, backend, 3) for backend in ("cpp", "reference")), DERIVATIVES)


@pytest.mark.parametrize("seed", range(5))
def test_any_number_of_threads(seed, threads):
    plan = random_plan(seed)
    n_sites = 6000
    indices = random_indices(n_sites, seed)
    operands = random_operands(plan, n_sites, indices, 5, seed)
    expected = evaluate(plan, operands, indices, n_sites, "reference")
    for n in (1, 2, 5):
        threads(n)
        found = evaluate(plan, operands, indices, n_sites, "cpp")
        close(found, expected, VALUES)
        again = evaluate(plan, operands, indices, n_sites, "cpp")
        assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True)), "results have to be reproducible"


PLAN = Plan((Operand("x", 1),), (), (Operand("y", 1),), (Step("y", "x", "x", ((0, 0, 0, 1.0),)),))


def square(x):
    return evaluate(PLAN, [x], {}, len(x), "cpp")[0]


def test_kernels_start_no_openmp_threads():
    """Those of OpenMP spin while they wait for each other, which other processes on the cores turn into standstill."""
    program = (
        "import os, torch\nfrom ops.test_cpp import square\nfrom carten.ops.threads import only_kernels, thread_count\n"
        "torch.set_num_threads(4)\n"
        "with only_kernels():\n"
        "    x = torch.ones(1 << 16, 1, 4)\n"
        "    before = len(os.listdir('/proc/self/task'))\n"
        "    square(x)\n"
        "    print(len(os.listdir('/proc/self/task')) - before, thread_count() - 1)"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tests)
    started, helpers = done.stdout.split()
    assert started == helpers


def test_only_kernels_leaves_torch_as_it_was(threads):
    threads(3)
    with only_kernels():
        assert (torch.get_num_threads(), thread_count()) == (1, min(3, os.cpu_count()))
        torch.set_num_threads(2)  # as launchers of several processes do
        leave_to_kernels()
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), thread_count()) == (3, 3)
    with pytest.raises(KeyError), only_kernels():
        raise KeyError
    assert (torch.get_num_threads(), thread_count()) == (3, 3)
    with only_kernels(processes=os.cpu_count()):
        assert thread_count() == 1
    leave_to_kernels()
    assert torch.get_num_threads() == 3


def test_kernels_from_many_python_threads_and_after_a_fork(threads):
    """One caller has the threads; the kernels of the others run all the same."""
    threads(2)
    x = torch.randn(1 << 15, 1, 4)
    expected = x.square()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: square(x), range(64)))
    assert all(torch.equal(result, expected) for result in results)
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        os._exit(not np.array_equal(square(x).numpy(), expected.numpy()))  # torch.equal waits for threads that are gone
