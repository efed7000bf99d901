"""Labels without what fixed terms add: what is left for a network to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from carten.data.labels import Frame
from carten.data.structures import structure_graph
from carten.errors import DataError, ModelError
from carten.properties.fixed import Fixed


def without(fixed: Fixed, frames: Sequence[Frame], cutoff: float) -> list[Frame]:
    """The frames, with the share of the terms subtracted from every label that has one; each is evaluated once.

    Args:
        fixed: the terms.
        frames: as they were read.
        cutoff: of the model, in Å.

    Raises:
        DataError: a term has no energy for such a structure.
    """
    return [without_fixed(fixed, frame, cutoff) for frame in frames] if fixed.terms else list(frames)


def without_fixed(fixed: Fixed, frame: Frame, cutoff: float) -> Frame:
    """As :func:`without`, of one frame."""
    names = [name for name in fixed.rows if name in frame.labels]
    if not names:
        return frame
    try:
        values = fixed.values(structure_graph(frame, cutoff, frame.inputs, frame.where), names)
    except ModelError as error:
        raise DataError(f"{frame.where}: {error}") from error
    arrays = {name: value.numpy() for name, value in values.items()}
    shares = {name: value[0] if fixed.rows[name].scope == "structure" else value for name, value in arrays.items()}
    return replace(frame, labels={**frame.labels, **{name: frame.labels[name] - shares[name] for name in names}})
