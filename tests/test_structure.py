"""Rules about the project itself: file sizes, imports without side effects, a light `import carten`."""

import ast
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts import missing

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "carten").rglob("*.py"))
PYTHON = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "docs").glob("*.py"))]
MODULES = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCES
    if path.stem != "__main__" and not (path.stem == "torchsim" and missing("torchsim"))
]
MAX_LINES = 500
HEAVY = ("torch", "numpy", "scipy", "ase", "matplotlib", "lightning", "pydantic")

STATE = """
import random, sys, warnings
import numpy, rich.text, torch  # rich draws random numbers when it is imported
try:
    import ipi.pes.dummy  # i-PI sets the print options of numpy when it is imported
except ImportError:
    pass
def state():
    return {
        "default dtype of torch": torch.get_default_dtype(),
        "default device of torch": torch.get_default_device(),
        "random state of torch": torch.get_rng_state().numpy().tobytes(),
        "number of threads of torch": torch.get_num_threads(),
        "deterministic algorithms of torch": torch.are_deterministic_algorithms_enabled(),
        "precision of float32 products": torch.get_float32_matmul_precision(),
        "random state of numpy": numpy.random.get_state()[1].tobytes() + bytes(numpy.random.get_state()[2]),
        "print options of numpy": str(numpy.get_printoptions()),
        "random state of Python": random.getstate(),
    }
"""
IMPORT_ALL = (
    STATE
    + """
import importlib
before = state()
for module in sys.argv[1:]:
    importlib.import_module(module)
    after = state()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        sys.exit(f"import {module} changed: {', '.join(changed)}")
"""
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_the_modules_are_found():
    assert {"carten", "carten.model.graph", "carten.errors"} <= set(MODULES)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_500_lines(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines, at most {MAX_LINES} are allowed: split it"


def test_importing_changes_no_global_state():
    done = python("-c", IMPORT_ALL, *MODULES)
    assert done.returncode == 0, done.stderr


def test_the_check_of_global_state_can_fail(tmp_path):
    (tmp_path / "impolite.py").write_text("import torch\ntorch.set_default_dtype(torch.float64)\ntorch.rand(1)\n")
    done = python("-c", f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{IMPORT_ALL}", "impolite")
    assert done.returncode == 1
    assert "import impolite changed: default dtype of torch, random state of torch" in done.stderr


def test_importing_carten_is_light():
    program = f"import sys, carten; carten.__version__; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "`import carten` must not import these"


def test_files_that_are_not_python_are_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    package = ROOT / "src" / "carten"
    packaged = {path for pattern in settings["package-data"]["carten"] for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files - packaged == set(), "add their pattern to [tool.setuptools.package-data]"


SHARED_NAMES = {"evaluate", "supports", "check"}
"""Public names that several modules define: the protocol of the back ends, and the commands of the same names."""

PRONOUNS = {
    "found", "there", "given", "told", "how", "own", "mine", "these", "those", "wanted", "made", "said", "what",
    "whole", "more",
}  # fmt: skip
"""Names that say which role a value has in the sentence, not what it is."""


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes and functions that a module defines."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name


def variables(tree: ast.Module) -> set[str]:
    """Names that are bound: parameters, local variables, and those of loops and comprehensions."""
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return bound | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def repeated(modules: dict[str, str]) -> dict[str, list[str]]:
    """Public names that more than one module defines, by name."""
    places = defaultdict(list)
    for module, text in modules.items():
        for name in set(public_names(ast.parse(text))):
            places[name].append(module)
    return {name: where for name, where in places.items() if len(where) > 1}


def test_one_name_is_one_thing():
    modules = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}
    twice = {name: where for name, where in repeated(modules).items() if name not in SHARED_NAMES}
    assert twice == {}, "give one of them another name, or an underscore if it is private"


def test_variables_say_what_they_are():
    for path in SOURCES:
        pronouns = variables(ast.parse(path.read_text(encoding="utf-8"))) & PRONOUNS
        assert pronouns == set(), f"{path.relative_to(ROOT)}: name what {', '.join(pronouns)} is"


def test_the_checks_of_names_can_fail():
    assert repeated({"a": "class Term: ...", "b": "def Term(): ...", "c": "def _Term(): ..."}) == {"Term": ["a", "b"]}
    assert variables(ast.parse("def f(told):\n    return [found for found in told]")) == {"told", "found"}
