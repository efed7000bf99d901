"""One run per folder, whole files, and nothing left behind."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from carten.errors import ConfigError
from carten.train.config import Config
from carten.train.datamodule import Batches
from carten.train.files import BEST, CONFIG, LAST, LOCK, METRICS, write_text
from carten.train.lock import locked
from carten.train.run import train
from carten.train.sets import read_sets
from carten.train.terms import terms
from carten.train.world import require_world

from .test_checkpoint import no_space_beyond

Configure = Callable[..., Config]
QUIET = Console(quiet=True)


def ended_process() -> int:
    """Number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_run_is_refused(configure: Configure) -> None:
    config = configure(training={"epochs": 1})
    with locked(config.output, print):
        for resume in (False, True):
            with pytest.raises(ConfigError, match=rf"is used by another run, process {os.getpid()} on this machine"):
                train(config, resume, console=QUIET)
    assert not config.output.exists()
    assert train(config, console=QUIET).epochs == 1


def test_of_runs_that_begin_together_one_holds_the_folder(tmp_path: Path) -> None:
    text = """
import sys, time
from pathlib import Path
from carten.train.lock import locked
print(flush=True)
sys.stdin.readline()
with locked(Path(sys.argv[1]), print):
    time.sleep(3)
"""
    folder = tmp_path / "run"
    with locked(folder, print):  # a lock of a dead process that all of them find
        lock = json.loads((folder / LOCK).read_text())
    folder.mkdir()
    (folder / LOCK).write_text(json.dumps({**lock, "process": ended_process()}))
    command = [sys.executable, "-c", text, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1], errors
    assert sum("is used by another run" in error for error in errors) == 3


def test_a_lock_of_a_dead_process_is_taken_over(configure: Configure) -> None:
    config = configure(training={"epochs": 1})
    train(config, console=QUIET)
    process, shown = ended_process(), io.StringIO()
    lock = {"host": socket.gethostname(), "process": process, "started": "1"}
    (config.output / LOCK).write_text(json.dumps(lock))
    config = configure(training={"epochs": 2})
    assert train(config, resume=True, console=Console(file=shown, width=1000)).epochs == 2
    assert f"(process {process}) is dead: its lock is taken over" in shown.getvalue()
    assert not (config.output / LOCK).exists()
    reused = {**lock, "process": os.getpid(), "started": "1"}  # another process has its number now
    (config.output / LOCK).write_text(json.dumps(reused))
    assert train(config, resume=True, console=QUIET).epochs == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"host": "elsewhere", "process": 1, "started": "1"}, r"process 1 on elsewhere.*remove .*\.lock"),
        ({}, r"names no process: if no run writes to .*, remove this file"),
    ],
)
def test_a_lock_that_cannot_be_judged_stays(configure: Configure, content: dict[str, object], message: str) -> None:
    config = configure()
    config.output.mkdir()
    (config.output / LOCK).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        train(config, console=QUIET)
    assert json.loads((config.output / LOCK).read_text()) == content


def test_what_killed_runs_left_is_removed(configure: Configure) -> None:
    config = configure(training={"epochs": 1})
    train(config, console=QUIET)
    for name in (BEST, LAST, METRICS, CONFIG):
        (config.output / f".{name}.0123456789abcdef").write_text("cut off")
    (config.output / ".mine").write_text("kept")
    train(configure(training={"epochs": 2}), resume=True, console=QUIET)
    hidden = {name for name in os.listdir(config.output) if name.startswith(".")}
    assert hidden == {".mine"}


def test_a_full_disk_leaves_the_previous_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "before")
    with no_space_beyond(2000), pytest.raises(OSError, match="File too large"):
        write_text(path, "x" * 10_000)
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", ["config.yaml"])


def test_a_disk_that_is_full_on_resuming_costs_nothing(configure: Configure) -> None:
    """The configuration is written anew: the old one stays, and the run can be resumed later."""
    train(configure(training={"epochs": 1}), console=QUIET)
    config = configure(training={"epochs": 2})
    before = (config.output / CONFIG).read_text()
    with no_space_beyond(500), pytest.raises(OSError, match="File too large"):
        train(config, resume=True, console=QUIET)
    assert (config.output / CONFIG).read_text() == before
    assert train(config, resume=True, console=QUIET).epochs == 2


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_more_processes_than_devices(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = configure()
    monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigError, match=rf"training.devices is 1, but {name}=2: every one .*set training.devices: 2"):
        train(config, console=QUIET)
    assert not config.output.exists()
    require_world(2)
    with pytest.raises(ConfigError, match=r"training\.devices is 3"):
        require_world(3)
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    if name == "SLURM_NTASKS":
        require_world(1)


@pytest.mark.parametrize(
    ("devices", "nodes", "environment", "message"),
    [
        (1, 2, {}, r"nodes is 2, but this command runs on one node: .*torchrun --nnodes=2 .* or srun --nodes=2"),
        (1, 1, {"OMPI_COMM_WORLD_SIZE": "2"}, r"OMPI_COMM_WORLD_SIZE=2: .*torchrun or srun instead of mpirun"),
        (1, 1, {"PMI_SIZE": "4"}, r"PMI_SIZE=4"),
        (
            4,
            1,
            {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
            r"devices is 4, but WORLD_SIZE=4, LOCAL_WORLD_SIZE=2: .*set training.devices: 2 and training.nodes: 2, or",
        ),
        (
            2,
            2,
            {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"},
            r"devices is 2 and training.nodes is 2, but SLURM_NTASKS=2, .* srun --nodes=2 --ntasks-per-node=2$",
        ),
    ],
)
def test_worlds_that_do_not_fit(devices: int, nodes: int, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_world(devices, nodes, environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
        {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"},
        {"SLURM_NTASKS": "2", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},  # srun torchrun
    ],
)
def test_worlds_that_fit(environment: dict[str, str]) -> None:
    require_world(4, 2, environment)


def test_more_processes_than_structures_in_a_batch(configure: Configure) -> None:
    config = configure(data={"batch": {"structures": 3}}, training={"devices": 2, "nodes": 2})
    sets = read_sets(config, terms(config.properties))
    with pytest.raises(ConfigError, match=r"times training.nodes is 4, but the batches have at most 3 structures"):
        Batches(config, sets)
