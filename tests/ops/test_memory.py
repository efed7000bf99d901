"""Freed memory is kept."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from carten.ops.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
block = torch.ones(10 << 20)  # 40 MB: glibc alone hands back any block above 32 MB
held = resident() - before
del block
print(held, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
@pytest.mark.parametrize("mode", ["keep", "default"])
def test_a_freed_block_stays_with_the_process(mode):
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    held, kept = map(int, done.stdout.split())
    assert held > 0.9 * (40 << 20)
    assert (kept > 0.9 * held) == (mode == "keep")
