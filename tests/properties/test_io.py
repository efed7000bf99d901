"""Model files: what comes back, what survives a failure, and what is refused."""

import errno
import json
import os
import re
import resource
import struct
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import ase.build
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import carten
from carten.data.neighbours import graph
from carten.errors import ModelFileError
from carten.model.config import ProductConfig
from carten.properties import container, io
from carten.properties import header as headers
from carten.properties.io import header, load, save
from carten.properties.rows import dump
from carten.properties.spec import input_table
from carten.properties.upgrades import UPGRADES
from contract import graphs
from model import models
from model.models import crystal, molecule

OPTIONS = {"l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "product": {"weights": "coupled"}}
PROVENANCE = {"data": "train.extxyz", "epochs": 3}


@pytest.fixture
def model():
    built = models.build(OPTIONS)
    rng = np.random.default_rng(0)
    for head in built.heads.values():
        for buffer in (head.reference, head.shift, head.scale):
            buffer += torch.from_numpy(rng.normal(size=tuple(buffer.shape)))
    return built


@pytest.fixture
def path(tmp_path, model):
    save(tmp_path / "model.carten", model, PROVENANCE)
    return tmp_path / "model.carten"


def everything(model):
    found = model(graphs(model, [molecule(), crystal()]))
    return {name: value.detach() for name, value in found.items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(second[name])), name


def rewritten(path, change):
    """The file with its header changed by a function, as if it had been written so."""
    tensors, metadata = io.read(path)
    found = json.loads(metadata["carten"])
    del found["sha256"]
    change(found)
    container.write(path, "carten", tensors, found, overwrite=True)


# --- round trip -------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_bit_for_bit(model, path):
    loaded = load(path, backend="reference")
    assert_same(dict(model.state_dict()), dict(loaded.state_dict()))
    assert_same(everything(model), everything(loaded))
    assert loaded.properties == model.properties
    assert (loaded.elements, loaded.config, loaded.cutoff) == (model.elements, model.config, model.cutoff)
    assert loaded.neighbours == model.neighbours


def test_a_loaded_model_is_frozen(path):
    loaded = load(path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_float32_comes_back_with_float64_references(tmp_path, model):
    model.to(torch.float32)
    save(tmp_path / "half.carten", model, {})
    loaded = load(tmp_path / "half.carten")
    assert loaded.dtype == torch.float32
    assert_same(dict(model.state_dict()), dict(loaded.state_dict()))
    assert loaded.heads["energies"].reference.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_can_be_chosen(path, dtype):
    assert load(path, dtype=dtype).dtype == dtype
    assert load(path).dtype == torch.float64


def test_carten_load_is_this_one(path):
    assert carten.load(path).elements == models.ELEMENTS


def test_user_defined_properties_come_back(tmp_path):
    rows = (*models.ANY, *models.PSEUDO, *models.RANK_3)
    options = {**OPTIONS, "odd_products": True, "l_max_edges": 3}
    model = models.build(options, rows)
    save(tmp_path / "model.carten", model, {})
    assert load(tmp_path / "model.carten").properties == model.properties


def test_header_says_what_the_model_is(model, path):
    found = header(path)
    assert found["format"] == io.FORMAT
    assert found["version"] == carten.__version__
    assert found["elements"] == list(models.ELEMENTS)
    assert found["network"]["cutoff"] == models.CUTOFF
    assert found["network"]["product"]["weights"] == "coupled"
    assert found["provenance"] == PROVENANCE
    assert found["units"]["forces"] == "eV/Angstrom"
    energies = model.heads["energies"].reference[:, 0].tolist()
    assert found["reference_energies"] == dict(zip(map(str, models.ELEMENTS), energies, strict=True))


def test_the_same_model_gives_the_same_bytes(tmp_path, model, path):
    save(tmp_path / "again.carten", model, PROVENANCE)
    assert (tmp_path / "again.carten").read_bytes() == path.read_bytes()


def test_a_file_is_json_and_numbers_and_nothing_else(model, path):
    """Read without safetensors: eight bytes of length, a JSON header, raw little-endian arrays that fill the rest."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    described = json.loads(data[8 : 8 + length])
    assert set(json.loads(described.pop("__metadata__")["carten"])) >= {"format", "network", "elements", "properties"}
    body, end = data[8 + length :], 0
    for name, entry in sorted(described.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        assert first == end
        values = np.frombuffer(body[first:last], dtype={"F64": "<f8", "I64": "<i8"}[entry["dtype"]])
        np.testing.assert_array_equal(values.reshape(entry["shape"]), model.state_dict()[name].numpy())
        end = last
    assert end == len(body)
    assert described.keys() == model.state_dict().keys()


def test_state_dict_does_not_depend_on_the_back_end(path):
    assert_same(dict(load(path, backend="reference").state_dict()), dict(load(path, backend="auto").state_dict()))


def test_loading_leaves_global_state_alone(path):
    random, dtype = torch.get_rng_state(), torch.get_default_dtype()
    load(path)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_default_dtype() == dtype


# --- writing ----------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_silently(model, path):
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match=r"model\.carten exists already: choose another name or remove it"):
        save(path, model, {})
    assert path.read_bytes() == before
    save(path, model, {"epochs": 4}, overwrite=True)
    assert header(path)["provenance"] == {"epochs": 4}


@contextmanager
def full_disk(size: int):
    """Files can't grow beyond ``size`` bytes: the kernel refuses to write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_intact(path, before):
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name], "a temporary file was left behind"


def test_a_disk_that_is_full_while_writing(model, path):
    before = path.read_bytes()
    with full_disk(1000), pytest.raises(ModelFileError) as error:
        save(path, model, {}, overwrite=True)
    assert "File too large" in str(error.value)
    assert "what was there before is unchanged" in str(error.value)
    assert_intact(path, before)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_of_the_system(model, path, monkeypatch, call):
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ModelFileError, match=r"cannot write .*model\.carten: .*No space left on device"):
        save(path, model, {}, overwrite=True)
    assert_intact(path, before)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interrupt_while_writing(model, path, monkeypatch, call):
    before = path.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, model, {}, overwrite=True)
    assert_intact(path, before)


def test_a_process_killed_while_writing(path):
    """The file is the old one to the byte; only a temporary file may be left, which no reader takes for a model."""
    before = path.read_bytes()
    program = (
        "import os, signal, sys\n"
        "from carten.properties.io import load, save\n"
        "model = load(sys.argv[1])\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save(sys.argv[1], model, {}, overwrite=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == before
    assert all(file.name.startswith(".") for file in path.parent.iterdir() if file != path)


def test_a_folder_that_does_not_exist(tmp_path, model):
    with pytest.raises(ModelFileError, match=r"cannot write .*No such file or directory"):
        save(tmp_path / "missing" / "model.carten", model, {})


def test_others_may_read_what_the_umask_lets_them(tmp_path, model):
    before = os.umask(0o027)
    try:
        save(tmp_path / "model.carten", model, {})
    finally:
        os.umask(before)
    assert (tmp_path / "model.carten").stat().st_mode & 0o777 == 0o640


# --- reading what is wrong --------------------------------------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"no file .*missing\.carten"):
        load(tmp_path / "missing.carten")
    with pytest.raises(ModelFileError, match="no file"):
        load(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 1e-4, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_off(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    for read in (load, header):
        with pytest.raises(ModelFileError, match=r"model\.carten is damaged, cut off, or not a carten file"):
            read(path)


def test_one_byte_more_or_less(path):
    data = path.read_bytes()
    for changed in (data[:-1], data + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(ModelFileError, match="damaged"):
            load(path)


def text(path):
    path.write_text("3\nwater\nO 0 0 0\nH 1 0 0\nH 0 1 0\n")


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


def pickled(path):
    """Would call os.system when unpickled."""
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(path).encode() + b".called'\ntR.")


@pytest.mark.parametrize("write", [text, archive, pickled])
def test_a_file_of_another_kind(tmp_path, write):
    path = tmp_path / "other.carten"
    write(path)
    with pytest.raises(ModelFileError, match=r"other\.carten is damaged, cut off, or not a carten file"):
        load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["other.carten"]


def test_a_safetensors_file_of_another_program(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match="a safetensors file but not a carten model: expected a header 'carten'"):
        load(tmp_path / "other.safetensors")


def test_a_newer_format(path):
    rewritten(path, lambda found: found.update(format=io.FORMAT + 1))
    for read in (load, header):
        with pytest.raises(ModelFileError, match=rf"format {io.FORMAT + 1}.*reads up to {io.FORMAT}: please upgrade"):
            read(path)


@pytest.mark.parametrize("version", [0, -1, "new", None, [1]])
def test_a_format_that_never_was(path, version):
    rewritten(path, lambda found: found.update(format=version))
    with pytest.raises(ModelFileError, match="damaged header"):
        load(path)


def test_a_header_that_is_not_json(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.carten", {"carten": "{format: 1"})
    with pytest.raises(ModelFileError, match="damaged header"):
        header(tmp_path / "model.carten")
    save_file({"weight": torch.zeros(3)}, tmp_path / "list.carten", {"carten": "[1]"})
    with pytest.raises(ModelFileError, match="damaged header"):
        header(tmp_path / "list.carten")


def test_a_file_of_format_1_still_gives_what_it_gave():
    """Written by the carten of that format, with energy and forces of ASE's water molecule."""
    old = load(Path(__file__).parent / "fixtures" / "format1.carten")
    values = old(graph(ase.build.molecule("H2O"), old.cutoff), ["energy", "forces"])
    assert float(values["energy"]) == pytest.approx(-2067.8104721729806, abs=1e-9)
    assert values["forces"][1].tolist() == pytest.approx([0, 0.5403101707272764, 0.037157423388482005], abs=1e-9)


def test_a_file_of_format_2_still_gives_what_it_gave():
    """Written by the carten of that format, with energy and forces of ASE's water molecule as a cation."""
    old = load(Path(__file__).parent / "fixtures" / "format2.carten")
    values = old(graph(ase.build.molecule("H2O"), old.cutoff, {"total_charge": np.array([1.0])}), ["energy", "forces"])
    assert float(values["energy"]) == pytest.approx(0.47288887964287996, abs=1e-9)
    assert values["forces"][1].tolist() == pytest.approx([0, 1.0240283597395003, -0.08078661906864638], abs=1e-9)


def test_the_preset_tace_of_older_files_is_now_carten(path, model):
    """Up to format 8 the products of ``tace`` were those of each channel; nothing was said of the other options."""

    def age(found):
        network = {name: value for name, value in found["network"].items() if name not in ("interaction", "residual")}
        product = {name: value for name, value in network["product"].items() if name not in ("channels", "orders")}
        old = {**network, "preset": "tace", "product": product}
        found.update(format=8, network=old, provenance={**found["provenance"], "config": {"model": old}})

    rewritten(path, age)
    found = header(path)
    assert (found["format"], found["network"]["preset"]) == (io.FORMAT, "carten")
    assert found["provenance"]["config"]["model"]["preset"] == "carten"
    assert found["network"]["product"] == model.config.product.model_dump()
    assert found["network"]["residual"] == {"source": "features", "first_layer": True}
    assert_same(everything(load(path, backend="reference")), everything(model))


def test_older_spatial_products_had_options_without_meaning(tmp_path):
    network = {"preset": "ictp", "product": {"kind": "spatial", "paths": "full", "weights": "coupled"}}
    assert UPGRADES[8]({"network": network})["network"]["product"] == ProductConfig(kind="spatial").model_dump(
        include=network["product"].keys()
    )


def test_older_formats_are_upgraded_step_by_step(model, path, monkeypatch):
    """A file of format 1 in a program of format 3, where formats 1 and 2 called the elements otherwise."""

    def age(found):
        found["format"], found["species"] = 1, found.pop("elements")

    rewritten(path, age)
    upgrades = {
        1: lambda found: renamed(found, "species", "kinds") | {"format": 2},
        2: lambda found: renamed(found, "kinds", "elements") | {"format": 3},
    }
    monkeypatch.setattr(headers, "FORMAT", 3)
    monkeypatch.setattr(headers, "UPGRADES", upgrades)
    assert header(path)["format"] == 3
    assert_same(everything(load(path, backend="reference")), everything(model))


def renamed(header, old, new):
    return {new if name == old else name: value for name, value in header.items()}


def test_models_that_exchange_moments_in_an_older_way_are_refused(path):
    rewritten(path, lambda found: found.update(format=4, inputs=[dump(input_table()["collinear_magmoms"])]))
    with pytest.raises(ModelFileError, match="format 4 exchanges collinear_magmoms in a way"):
        header(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("elements"),
        lambda found: found.update(elements=[1, 6]),
        lambda found: found.update(elements=[1, 6, 7, 200]),
        lambda found: found.update(elements="CHNO"),
        lambda found: found["network"].update(n_channels=5),
        lambda found: found["network"].update(n_channels=-1),
        lambda found: found["network"].update(depth=2),
        lambda found: found.update(network=None),
        lambda found: found.update(dtype="float17"),
        lambda found: found.update(properties=[{"name": "energy"}]),
        lambda found: found["properties"].pop(),
    ],
)
def test_a_header_that_does_not_fit_the_weights(path, change):
    rewritten(path, change)
    with pytest.raises(ModelFileError, match=r"model\.carten"):
        load(path)


def test_a_route_of_a_newer_carten(path):
    rewritten(path, lambda found: found["properties"][0]["routes"][0].update(kind="Telepathy"))
    with pytest.raises(ModelFileError, match=re.compile("Telepathy.*please upgrade", re.DOTALL)):
        load(path)


@pytest.mark.parametrize("change", ["missing", "additional", "shape"])
def test_weights_that_do_not_fit_the_header(path, change):
    tensors, metadata = io.read(path)
    name = next(iter(tensors))
    if change == "missing":
        del tensors[name]
    elif change == "additional":
        tensors[name := "more"] = torch.zeros(2)
    else:
        tensors[name] = tensors[name][..., :-1].contiguous()
    for text, message in ((metadata, "checksum"), (signed(tensors, metadata), re.escape(name))):
        path.unlink()
        save_file(tensors, path, text)
        with pytest.raises(ModelFileError, match=f"does not hold the model its header describes.*{message}"):
            load(path)


def signed(tensors, metadata):
    """A header with the checksum of other tensors."""
    found = json.loads(metadata["carten"])
    del found["sha256"]
    return {"carten": json.dumps({**found, "sha256": container.checksum(tensors, found)})}
