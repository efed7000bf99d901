"""What a GPU would make the host wait for in one evaluation, found on the CPU by the operations that need an answer."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from carten.data.neighbours import graph
from carten.model.config import NetworkConfig
from carten.model.graph import batch
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.systems import find_system

ANSWERS = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "unique_consecutive", "equal"}
"""Operations whose result, or its size, the host has to know."""
EXPECTED = {"_element": "unknown elements are an error", "counts": "more elements than a GPU multiplies by at once"}
"""Functions that may ask."""


class Waits(TorchDispatchMode):
    """Functions of carten that ask for an answer while this is active."""

    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        by_mask = name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple))
        if name in ANSWERS or (by_mask and any(x is not None and x.dtype == torch.bool for x in args[1])):
            frames = [frame.name for frame in traceback.extract_stack() if "/src/carten/" in frame.filename]
            self.functions.append(frames[-1] if frames else name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"l_max_features": 0}, {"preset": "ictp"}])
def test_the_host_waits_for_elements_only(training, options):
    sizes = {"n_channels": 2, "l_max_edges": 1, "l_max_features": 1, "correlation_order": 2}
    rows = [property_table()[name] for name in ("energy", "forces")]
    model = Potential(NetworkConfig.model_validate({**sizes, **options}), (1, 8), rows, backend="reference")
    if training:
        model.train().network.choose_tables()
    else:
        model.freeze()
    structures = batch([graph(find_system("water:4"), model.cutoff)] * 2)
    with Waits() as waits:
        values = model(structures, ("energy", "forces"))
        if training:
            (values["energy"].sum() + values["forces"].square().sum()).backward()
    assert set(waits.functions) <= set(EXPECTED)
    assert waits.functions.count("_element") == 1


def test_questions_are_seen():
    numbers = torch.tensor([1, 0, 2])
    with Waits() as waits:
        bool(numbers.any())
        numbers[numbers > 0]
        numbers.nonzero()
    assert len(waits.functions) == 3
