"""Small real data sets shipped with carten: what each one is stands in the README beside this file."""

from pathlib import Path

NAMES: tuple[str, ...] = (
    "ethanol_xtb_train",
    "ethanol_xtb_test",
    "ethanol_dft_train",
    "ethanol_dft_test",
    "bn_xtb_train",
    "bn_xtb_test",
)


def path(name: str) -> Path:
    """Where a shipped data set lies: an extended xyz file, compressed with gzip, that ASE reads as it is.

    Args:
        name: one of ``NAMES``.

    Raises:
        ValueError: there is no data set of that name.
    """
    if name not in NAMES:
        raise ValueError(f"no shipped data set is called {name!r}: expected one of {', '.join(NAMES)}")
    return Path(__file__).with_name(f"{name}.xyz.gz")
