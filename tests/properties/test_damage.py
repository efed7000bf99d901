"""Model files that were damaged, or written to harm, and are readable all the same: none is believed."""

import json
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from carten.errors import ModelError, ModelFileError
from carten.properties import container, io
from carten.properties.io import header, load, save
from model import models
from properties.test_io import assert_same, everything, rewritten

OPTIONS = {"l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "product": {"weights": "coupled"}}


@pytest.fixture
def model():
    return models.build(OPTIONS)


@pytest.fixture
def path(tmp_path, model):
    save(tmp_path / "model.carten", model, {})
    return tmp_path / "model.carten"


def test_any_changed_number_is_noticed(model, path):
    """Without the checksum most of these change the energy, and nothing else tells."""
    data = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for position in np.linspace(start, len(data) - 1, 12).astype(int):
        changed = bytearray(data)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        for read in (load, header):
            with pytest.raises(ModelFileError, match=r"model\.carten.*(checksum|damaged)"):
                read(path)


@pytest.mark.parametrize(("old", "new"), [(b'cutoff\\": ', b'cutoff\\": 1'), (b'neighbours\\": ', b'neighbours\\": 1')])
def test_a_changed_header_is_noticed(path, old, new):
    """A digit more: the file is as well-formed as before."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = data[8 : 8 + length].rstrip(b" ")
    assert text.count(old) == 1
    text = text.replace(old, new)
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(ModelFileError, match="the checksum does not fit"):
        load(path)


def test_a_file_without_its_checksum(path):
    tensors, metadata = io.read(path)
    found = json.loads(metadata["carten"])
    del found["sha256"]
    path.unlink()
    save_file(tensors, path, {"carten": json.dumps(found)})
    with pytest.raises(ModelFileError, match="the checksum does not fit"):
        load(path)


def test_files_of_the_format_before_have_no_checksum_and_load(model, path):
    tensors, metadata = io.read(path)
    found = {**json.loads(metadata["carten"]), "format": 5}
    del found["sha256"]
    path.unlink()
    save_file(tensors, path, {"carten": json.dumps(found)})
    assert not io.has_checksum(path)
    assert_same(everything(load(path, backend="reference")), everything(model))


def weights_changed(path, change):
    """The file with its weights changed by a function, as if it had been written so."""
    tensors, metadata = io.read(path)
    found = json.loads(metadata["carten"])
    del found["sha256"]
    change(tensors)
    container.write(path, "carten", tensors, found, overwrite=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(model, path, value):
    def spoil(tensors):
        tensors["network.embedding"][0, 0] = value

    weights_changed(path, spoil)
    with pytest.raises(ModelFileError, match=r"network\.embedding has values that are not finite"):
        load(path)
    with torch.no_grad():
        model.network.embedding[0, 0] = value
    with pytest.raises(ModelError, match=r"network\.embedding has values that are not finite"):
        save(path, model, {}, overwrite=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64])
def test_weights_of_another_type(path, dtype):
    """They would be cast without a word."""

    def cast(tensors):
        tensors["network.embedding"] = tensors["network.embedding"].to(dtype)

    weights_changed(path, cast)
    with pytest.raises(ModelFileError, match=rf"network\.embedding is of type {dtype}"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["network"].update(n_channels=10**6), "more weights than the"),
        (lambda found: found["network"].update(n_layers=10**6), "more weights than the"),
        (lambda found: found["network"]["radial"].update(hidden=[10**5, 10**5]), "more weights than the"),
        (lambda found: found["network"].update(correlation_order=10**6), "less than or equal"),
        (lambda found: found.update(comment="no such key"), "comment: Extra inputs are not permitted"),
        (lambda found: found.update(neighbours=float("nan")), "neighbours"),
        (lambda found: found.update(elements=["x"]), "elements.0"),
        (lambda found: found.update(elements=[]), "elements"),
        (lambda found: found.update(units={}), "the unit of"),
        (lambda found: found["properties"][0].update(unit="<img src=x onerror=alert(1)>"), "the unit of"),
        (lambda found: found.update(reference_energies={"99": 1.0}), "reference energies of elements"),
        (lambda found: found.update(provenance=[]), "provenance"),
        (lambda found: found.update(provenance={"epoch": 3}), "epoch, step and minutes"),
        (lambda found: found.update(provenance={"sources": [{"epoch": 3}]}), "epoch, step and minutes"),
        (lambda found: found.update(provenance={"sources": [[]]}), "provenance.sources"),
        (lambda found: found.update(provenance={"validation": {"energy_rmse": "low"}}), "provenance.validation"),
        (lambda found: found.update(provenance={"config": {"properties": ["energy"]}}), "provenance.config.properties"),
        (lambda found: found["properties"][0].update(colour="red"), "Property has no colour: please upgrade"),
        (lambda found: found["properties"][0].update(parity="odd"), "parity"),
        (lambda found: found["properties"][0].update(scope="planet"), "scope"),
        (lambda found: found["properties"][0].update(routes={}), "no list of routes"),
        (lambda found: found["properties"][0].update(routes=[]), "no list of routes"),
        (lambda found: found["properties"][0].pop("name"), "name"),
        (lambda found: found.update(properties=[found["properties"][0]] * 2), "twice"),
        (lambda found: found.update(inputs=[None]), "expected an input"),
        (lambda found: found.update(terms=[{"kind": "telepathy"}]), "terms"),
        (lambda found: found.update(terms=7), "terms"),
    ],
)
def test_headers_are_not_believed(path, change, message):
    """Each with the right checksum, as whoever wants to harm would write it."""
    rewritten(path, change)
    with pytest.raises(ModelFileError, match=re.escape(message)) as error:
        load(path)
    assert str(path) in str(error.value)


def test_a_header_nested_deeply(path):
    tensors, _ = io.read(path)
    path.unlink()
    save_file(tensors, path, {"carten": "[" * 100_000 + "]" * 100_000})
    with pytest.raises(ModelFileError, match="damaged header"):
        load(path)
