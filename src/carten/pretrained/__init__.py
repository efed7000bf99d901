"""Trained models shipped with carten: what each one is stands in docs/organic.md. A name stands for its file."""

from pathlib import Path

SUFFIX = ".carten"
FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the models that are shipped, which stand wherever a model file may."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


def located(model: str | Path, folder: str | Path = "") -> Path:
    """Where a model file lies.

    A file of that name goes first, so that a path means the same whatever carten ships; only a bare name without a file
    is looked up. Of names that are unknown the path comes back as it is.

    Args:
        model: a path, or one of :func:`names`.
        folder: that a relative path starts from; the working directory by default.
    """
    path = Path(folder) / model
    return FOLDER / f"{model}{SUFFIX}" if str(model) in names() and not path.is_file() else path


def absent(model: str | Path) -> str:
    """What to say where there is no such file, with the names there are if it looks like a name."""
    path = Path(model)
    if path.suffix or path.name != str(path):
        return f"no file {path}"
    return f"no file {path}, and no shipped model of this name: expected a .carten file, or {' or '.join(names())}"
