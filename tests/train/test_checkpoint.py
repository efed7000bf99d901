import json
import math
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from carten.errors import ModelFileError
from carten.properties.container import write
from carten.train.checkpoint import CHECKPOINT_FORMAT, CHECKPOINT_KEY, SafetensorsCheckpoint

IO = SafetensorsCheckpoint()


def state() -> dict[str, object]:
    shared = torch.arange(6.0)
    return {
        "state_dict": {"a.b": shared, "view": shared[1:4], "strided": torch.arange(6).reshape(2, 3).T, "none": None},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "avg": torch.ones(2, dtype=torch.float64)}}}],
        "groups": [{"betas": (0.9, 0.999), "lr": 1e-3, "fused": True, "params": [0]}],
        "numbers": [math.inf, -math.inf, 0.1 + 0.2, 2**70],
        "rng": torch.get_rng_state(),
        "empty": {"list": [], "dict": {}, "tensor": torch.zeros(0, 3)},
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_a_nested_state_comes_back_exactly(tmp_path: Path) -> None:
    IO.save_checkpoint(state(), tmp_path / "last.ckpt")
    assert same(state(), IO.load_checkpoint(tmp_path / "last.ckpt"))


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="found set"):
        IO.save_checkpoint({"a": {1, 2}}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


@contextmanager
def no_space_beyond(size: int) -> Iterator[None]:
    """Writes beyond so many bytes of a file fail with an OSError, as on a full disk."""
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint({"value": torch.zeros(100)}, path)
    with no_space_beyond(2000), pytest.raises(ModelFileError, match="unchanged"):
        IO.save_checkpoint({"value": torch.ones(10_000)}, path)
    assert same(IO.load_checkpoint(path), {"value": torch.zeros(100)})
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_ctrl_c_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "last.ckpt"
    IO.save_checkpoint({"value": 1}, path)
    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        IO.save_checkpoint({"value": 2}, path)
    assert IO.load_checkpoint(path) == {"value": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_damaged_foreign_and_newer_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(ModelFileError, match="no file"):
        IO.load_checkpoint(path)
    IO.save_checkpoint(state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        IO.load_checkpoint(path)
    path.write_bytes(b"PK\x03\x04 a pickle in a zip file")
    with pytest.raises(ModelFileError, match="damaged"):
        IO.load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        IO.load_checkpoint(path)
    save_file({}, path, {CHECKPOINT_KEY: json.dumps({"format": CHECKPOINT_FORMAT + 1, "state": {}})})
    with pytest.raises(ModelFileError, match="please upgrade"):
        IO.load_checkpoint(path)
    save_file({}, path, {CHECKPOINT_KEY: json.dumps({"format": 1, "state": {"dict": []}})})
    with pytest.raises(ModelFileError, match="end the run with the carten that began it"):
        IO.load_checkpoint(path)


def test_any_changed_byte_of_the_tensors_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(state(), path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for position in range(start, len(whole), (len(whole) - start) // 20):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ModelFileError, match="the checksum does not fit"):
            IO.load_checkpoint(path)


def test_a_changed_or_missing_checksum(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for content in ({}, {"sha256": None}, {"sha256": 7}, {"sha256": "0" * 64}):
        header = {"format": CHECKPOINT_FORMAT, "state": {"dict": []}, **content}
        save_file({}, path, {CHECKPOINT_KEY: json.dumps(header)})
        with pytest.raises(ModelFileError, match="the checksum does not fit"):
            IO.load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"dict": 7},
        {"dict": [[1]]},
        {"dict": [[[1], 2]]},
        {"dict": [[{"tensor": "0"}, 2]]},
        {"tensor": "9"},
        {"tensor": ["0"]},
        {"tuple": None},
        {"telepathy": 1},
        {"dict": [], "tuple": []},
    ],
)
def test_states_that_nothing_wrote(tmp_path: Path, content: object) -> None:
    """With the right checksum."""
    header = {"format": CHECKPOINT_FORMAT, "state": [1, content]}
    write(tmp_path / "last.ckpt", CHECKPOINT_KEY, {"0": torch.zeros(2)}, header)
    with pytest.raises(ModelFileError, match=r"last\.ckpt is damaged"):
        IO.load_checkpoint(tmp_path / "last.ckpt")


def test_a_state_nested_deeply(tmp_path: Path) -> None:
    nested: list[object] = []
    for _ in range(300):
        nested = [nested]
    write(tmp_path / "last.ckpt", CHECKPOINT_KEY, {}, {"format": CHECKPOINT_FORMAT, "state": nested})
    with pytest.raises(ModelFileError, match="nested too deeply"):
        IO.load_checkpoint(tmp_path / "last.ckpt")
