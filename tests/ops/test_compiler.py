"""Compiling and caching: damaged entries, concurrent processes, folders that can't be written, no compiler."""

import subprocess
import sys
import warnings

import pytest
import torch

from carten.errors import ModelError
from carten.ops import compiler, cpp, library
from ops.plans import random_indices, random_operands, random_plan

SOURCE = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setattr(compiler, "cache_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.needs("cpp")
def test_a_source_is_compiled_once(folder):
    made = []

    def source():
        made.append(1)
        return SOURCE

    for _ in range(3):
        assert compiler.load("key", source).answer() == 42
    assert len(made) == 1
    assert len(list(folder.iterdir())) == 1
    compiler.load("another key", source)
    assert len(made) == 2


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("damage", [b"", b"not a library", None])
def test_a_damaged_entry_is_made_again(folder, damage):
    compiler.load("key", lambda: SOURCE)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    entry.unlink()  # the library is in use: never write into it
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert compiler.load("key", lambda: SOURCE).answer() == 42
    (again,) = folder.iterdir()
    assert again.read_bytes() == whole


@pytest.mark.needs("cpp")
def test_a_source_that_does_not_compile_says_why(folder):
    with pytest.raises(ModelError, match="could not compile") as error:
        compiler.load("key", lambda: "this is no C++;")
    assert "error" in str(error.value)
    assert not list(folder.iterdir())


@pytest.mark.needs("cpp")
def test_many_processes_at_once(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom carten.ops import compiler\n"
        "compiler.cache_folder = lambda: Path(sys.argv[1])\n"
        f"print(compiler.load('key', lambda: {SOURCE!r}).answer())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in running] == ["42"] * 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".so"}


def test_the_cache_follows_the_platform(tmp_path, monkeypatch):
    compiler.cache_folder.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    try:
        assert compiler.cache_folder() == tmp_path / "cache" / "carten"
    finally:
        compiler.cache_folder.cache_clear()


def test_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file where a folder should be")
    monkeypatch.setattr(compiler, "_user_cache", lambda: tmp_path / "home")
    monkeypatch.setattr(compiler.tempfile, "gettempdir", lambda: str(tmp_path))
    compiler.cache_folder.cache_clear()
    try:
        folder = compiler.cache_folder()
    finally:
        compiler.cache_folder.cache_clear()
    assert folder.parent == tmp_path
    assert folder.name.startswith("carten-")
    assert folder.stat().st_mode & 0o077 == 0


@pytest.fixture
def no_compiler(monkeypatch):
    """A machine without a compiler."""
    monkeypatch.setattr(compiler, "COMPILERS", ("no-such-compiler",))
    compiler.compiler.cache_clear()
    library._found.cache_clear()
    yield
    compiler.compiler.cache_clear()
    library._found.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_auto_warns_once_and_runs():
    plan = random_plan(0)
    indices = random_indices(5, 0)
    operands = random_operands(plan, 5, indices, 2, 0)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        found = library.evaluate(plan, operands, indices, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.evaluate(plan, operands, indices, 5)
    expected = library.evaluate(plan, operands, indices, 5, "reference")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_cpp_is_an_error():
    with pytest.raises(ModelError, match="install one or use backend='reference'"):
        library.evaluate(random_plan(0), [torch.zeros(1)], {}, 1, "cpp")


@pytest.mark.needs("cpp")
def test_threads_are_those_of_torch():
    assert cpp.team() is not None
    if sys.platform == "linux":
        cpp_runtimes = subprocess.run(
            [sys.executable, "-c", RUNTIMES], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(cpp_runtimes) == 1, f"more than one OpenMP runtime is loaded: {cpp_runtimes}"


RUNTIMES = """
import torch
from carten.ops.library import evaluate
from carten.ops.plan import Array, Plan, Step
plan = Plan((Array("x", 1),), (), (Array("y", 1),), (Step("y", "x", "x", ((0, 0, 0, 1.0),)),))
evaluate(plan, [torch.ones(1 << 16, 1, 4)], {}, 1 << 16, "cpp")
maps = open("/proc/self/maps").read().splitlines()
print(*sorted({line.split()[-1] for line in maps if any(n in line for n in ("libgomp", "libomp", "libiomp"))}))
"""
