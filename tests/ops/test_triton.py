"""The Triton back end without a GPU: in Triton's interpreter, and compiled for GPUs that are not there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from carten.errors import ModelError
from carten.ops import builders, triton
from carten.ops.library import choose
from carten.ops.space import Space
from carten.ops.triton_codegen import kernel
from carten.ops.triton_passes import Pass, passes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")

POINTERS = {"float32": "*fp32", "float64": "*fp64"}


def run_cases(environment):
    """Triton decides when it is imported whether it interprets kernels, so that takes a process of its own."""
    cases = Path(__file__).with_name("triton_cases.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)],
        env={**os.environ, **environment},
        cwd=cases.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert re.search(r"\d\d passed", done.stdout)


def test_the_interpreter_finds_what_the_reference_finds():
    run_cases({"TRITON_INTERPRET": "1"})


@pytest.mark.needs("gpu")
def test_a_gpu_finds_what_the_reference_finds():
    run_cases({"TRITON_INTERPRET": "0"})


def test_tensors_on_the_cpu_are_refused():
    with pytest.raises(ModelError, match=r"'triton' runs on float32 or float64 on a GPU, found torch\.float32 on cpu"):
        choose([torch.ones(1)], "triton")


def test_without_triton(monkeypatch):
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed: pip install 'carten\[gpu\]'"):
        choose([torch.ones(1)], "triton")


@pytest.mark.parametrize("length", [1, 4, 7])
def test_segments_are_split_into_parts_of_bounded_length(length):
    g = torch.Generator().manual_seed(length)
    for n_rows in (1, 2, 9):
        counts = torch.randint(20, (n_rows,), generator=g) * torch.randint(2, (n_rows,), generator=g)
        bounds = torch.nn.functional.pad(torch.cumsum(counts, 0), (1, 0))
        whole = triton._Segments(None, bounds, n_rows, int(bounds[-1]))
        parts, rows = whole.split(length)
        assert parts.rows == rows.sites == len(parts.bounds) - 1
        sizes = parts.bounds.diff()
        assert int(sizes.min()) >= 0 and int(sizes.max()) <= length
        for row in range(n_rows):
            first, last = (int(x) for x in rows.bounds[row : row + 2])
            assert (int(parts.bounds[first]), int(parts.bounds[last])) == tuple(bounds[row : row + 2].tolist())


def plans():
    """Plans with all kinds of passes, small enough to be compiled in seconds."""
    space = Space.up_to(1)
    interaction = builders.interaction_plan(space, 1, space)
    product = builders.product_plan(space, Space.up_to(1), 2)
    return {
        "harmonics": builders.harmonics_plan(2),
        "interaction": interaction,
        "its gradient": interaction.vjp([array.name for array in interaction.inputs]),
        "gradient of a product": product.vjp([array.name for array in product.inputs]),
    }


def compile_for(part: Pass, scalar: str, target: tuple[str, object, int]):
    """What Triton's compiler makes of a pass for a GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    made = kernel(part, scalar, 64, target[2])
    function = triton.load_module(made.source)
    types = {name: _type(name, scalar) for name in function.arg_names}
    pointers = [n for n, name in enumerate(function.arg_names) if types[name].startswith("*")]
    source = ASTSource(function, types, {"ORDERED": True} if part.index else {}, {(n,): ALIGNED for n in pointers})
    return compile(source, target=GPUTarget(*target), options={"num_warps": made.tile.warps, "num_stages": 1})


ALIGNED = [["tt.divisibility", 16]]


def _type(name: str, scalar: str) -> str:
    if name == "ORDERED":
        return "constexpr"
    if name in ("n", "blocks"):
        return "i32"
    return POINTERS[scalar] if re.fullmatch(r"[io]\d+", name) else "*i64"


@pytest.mark.parametrize("scalar", POINTERS)
@pytest.mark.parametrize("name", plans())
def test_kernels_compile_for_nvidia(name, scalar):
    """To machine code; ptxas says how many registers a thread needs, and what did not fit into them: nothing."""
    import triton as compiler

    ptxas = compiler.knobs.nvidia.ptxas.path
    for part in passes(plans()[name], triton.MAX_ACCUMULATORS):
        made = compile_for(part, scalar, ("cuda", 90, 32))
        assert made.asm["cubin"]
        assert "atom." not in made.asm["ptx"] and "red." not in made.asm["ptx"]
        command = [ptxas, "--verbose", "--gpu-name=sm_90a", "--output-file=/dev/null", "-"]
        report = subprocess.run(command, input=made.asm["ptx"], capture_output=True, text=True, check=True).stderr
        assert "0 bytes spill stores, 0 bytes spill loads" in report, f"{part.plan}\n{report}"


@pytest.mark.parametrize("name", ["its gradient"])
def test_kernels_compile_for_amd(name):
    for part in passes(plans()[name], triton.MAX_ACCUMULATORS):
        assert compile_for(part, "float32", ("hip", "gfx942", 64)).asm["hsaco"]
