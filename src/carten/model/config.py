"""The network's hyperparameters, and the presets of the two papers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carten.ops.space import Space

PRESETS: dict[str, dict[str, Any]] = {
    "tace": {"radial": {"elements": False}, "product": {"paths": "symmetric", "weights": "channelwise"}},
    "ictp": {"radial": {"elements": False}, "product": {"paths": "full", "weights": "coupled"}},
}
"""What a preset sets beyond the defaults; every key can be overridden."""

Count = Annotated[int, Field(ge=1, le=2**20)]
Rank = Annotated[int, Field(ge=0, le=8)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RadialConfig(_Section):
    """Radial functions: a basis times an envelope, then a small network per layer."""

    basis: Literal["bessel", "chebyshev"] = "bessel"
    n_basis: Count = 8
    hidden: tuple[Count, ...] = (64, 64, 64)
    envelope_power: Annotated[int, Field(ge=2, le=100)] = 5
    elements: bool = False
    """Whether the radial network also depends on the elements of both atoms."""


class ProductConfig(_Section):
    """Many-body products of each layer."""

    kind: Literal["recursive", "spatial"] = "recursive"
    """Recursive coupling, or pointwise polynomials on a quadrature of the sphere (both exactly equivariant)."""
    paths: Literal["symmetric", "full"] = "symmetric"
    weights: Literal["channelwise", "coupled"] = "channelwise"
    """Whether each path is weighted per channel or mixes all channels."""
    elements: bool = True
    """Whether the weights depend on the element of the centre."""


class NetworkConfig(_Section):
    """One equivariant message-passing network (TACE arXiv 2509.14961, ICTP arXiv 2405.14253)."""

    preset: Literal["tace", "ictp"] = "tace"
    cutoff: Annotated[float, Field(ge=0.1, le=1000, allow_inf_nan=False)] = 5.0
    """Å."""
    n_layers: Count = 2
    n_channels: Count = 64
    correlation_order: Annotated[int, Field(ge=1, le=6)] = 3
    l_max_edges: Rank = 3
    l_max_features: Rank = 2
    odd_products: bool = False
    """Whether odd products and pseudotensors take part: features of full O(3)."""
    time_reversal: bool = True
    """Whether energies stay exactly the same when all magnetic moments and fields are reversed (with odd_products)."""
    n_readout_channels: Count = 16
    n_members: Count = 1
    """Readouts of each property on the one network; several are an ensemble, whose spread is the uncertainty."""
    radial: RadialConfig = RadialConfig()
    product: ProductConfig = ProductConfig()

    def space(self, l_max: int) -> Space:
        """All parts of features up to a rank; layers leave out those that nothing leads to."""
        return Space.up_to(l_max, self.odd_products, self.odd_products and self.time_reversal)

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = PRESETS.get(str(values.get("preset", "tace")), {})
        merged = dict(values)
        for section, defaults in preset.items():
            section_values = values.get(section, {})
            merged[section] = {**defaults, **section_values} if isinstance(section_values, dict) else section_values
        return merged

    @model_validator(mode="after")
    def _check_spatial(self) -> NetworkConfig:
        if self.product.kind == "spatial" and self.odd_products:
            raise ValueError("product.kind 'spatial' has no odd products: set odd_products: false, or kind: recursive")
        return self
