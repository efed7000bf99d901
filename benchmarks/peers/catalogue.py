"""The measured codes, and how their settings differ from the common ones."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers.settings import Settings, Task

PAPER = Settings()
"""64 channels, L = 2, l_max = 3, ν = 3, two layers, 5 Å: the settings of the papers of TACE and ICTP."""


@dataclass(frozen=True)
class Code:
    """One line of the table.

    Args:
        name: shown.
        module: of :mod:`benchmarks.peers.codes`.
        distribution: on PyPI.
        environment: folder of its environment; empty for the one that runs the benchmark.
        tasks: what it can do.
        variant: passed to the module.
        note: how it differs from the common settings.
        sized: whether all of the settings have their meaning, so that it takes part in the scan over L and ν.
        compiles: whether the first use on a machine compiles something that is kept.
    """

    name: str
    module: str
    distribution: str
    environment: str
    tasks: tuple[Task, ...] = ("infer", "train")
    variant: str = ""
    note: str = ""
    sized: bool = False
    compiles: bool = False


CODES = (
    Code("carten", "carten", "carten", "carten", variant="carten", sized=True, compiles=True),
    Code(
        "carten, ICTP", "carten", "carten", "carten", ("infer",), variant="ictp", sized=True, compiles=True,
        note="preset ictp: full products with coupled weights",
    ),
    Code("MACE", "mace", "mace-torch", "mace", sized=True),
    Code(
        "Symmetrix-XL", "symmetrix", "symmetrix-xl", "symmetrix", ("infer",), note="the MACE model above",
        compiles=True,
    ),
    Code(
        "FlashCart", "flashcart", "flashcart", "flashcart", sized=True,
        note="its default gates and norms, weights that do not depend on elements, Chebyshev radial basis",
    ),
    Code("TACE", "tace", "tace", "tace", note="0.1.0, the Cartesian code"),
    Code("NequIP", "nequip", "nequip", "nequip", variant="eager", note="64 channels, l 2, no products (ν 1)"),
    Code(
        "NequIP compiled", "nequip", "nequip", "nequip", variant="compiled",
        note="64 channels, l 2, no products (ν 1); AOTInductor for inference, torch.compile for training",
        compiles=True,
    ),
    Code("SevenNet", "sevenn", "sevenn", "sevenn", note="64 channels, l 2, no products (ν 1)"),
    Code(
        "TensorNet", "torchmdnet", "torchmd-net", "torchmdnet",
        note="64 channels, rank 2, products of two tensors; its time includes finding neighbours",
    ),
)  # fmt: skip

CHANNELS = (8, 64)
RANKS = (0, 2, 1, 3, 4)
ORDERS = (1, 2, 3, 4)


def scan() -> list[Settings]:
    """Sizes of the scan: over L with l_max = L and ν = 3, and over ν with the papers' L and l_max; some first."""
    channels = CHANNELS[::-1]
    ranks = [Settings(channels=c, l_features=rank, l_edges=rank) for rank in RANKS for c in channels]
    orders = [Settings(channels=c, correlation=order) for order in ORDERS for c in channels]
    return [*ranks[:6], *orders[:6], *ranks[6:], *orders[6:]]
