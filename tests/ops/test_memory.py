"""Freed memory is kept."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from carten.ops.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    blocks = [torch.ones(10 << 20) for _ in range(2)]  # above 32 MB glibc never learns to keep a block by itself
    del blocks

def faults(n=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

step()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_steps_take_no_new_pages():
    found = {}
    for mode in ("keep", "default"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
        found[mode] = int(done.stdout)
    assert found["keep"] < found["default"] / 10
