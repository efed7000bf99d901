"""The network's hyperparameters, and the presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carten.ops.space import Space

PRESETS: dict[str, dict[str, Any]] = {
    "carten": {},
    "tace": {
        "interaction": {"normalisation": "number"},
        "product": {"paths": "full", "weights": "coupled", "orders": "apart"},
        "residual": {"source": "messages", "first_layer": False},
    },
    "ictp": {"product": {"paths": "full", "weights": "coupled"}},
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


class InteractionConfig(_Section):
    """Sums over neighbours in each layer."""

    normalisation: Literal["root", "number"] = "root"
    """Whether sums are divided by the root of the average number of neighbours, or by the number."""
    gate: bool = False
    """Whether messages pass a nonlinearity: scalars SiLU, tensors are multiplied by sigmoids of scalars."""


class ProductConfig(_Section):
    """Many-body products of each layer."""

    kind: Literal["recursive", "spatial"] = "recursive"
    """Recursive coupling, or pointwise polynomials on a quadrature of the sphere (both exactly equivariant)."""
    paths: Literal["symmetric", "full"] = "symmetric"
    weights: Literal["channelwise", "coupled"] = "channelwise"
    """Whether each path is weighted per channel or mixes all channels."""
    elements: bool = True
    """Whether the weights depend on the element of the centre."""
    channels: Count | None = None
    """Of the products, up to n_channels: features are mapped to so many before, and back after; all by default."""
    orders: Literal["together", "apart"] = "together"
    """Whether coupled weights are scaled by the number of all paths, or by that of the paths of their order."""

    @model_validator(mode="after")
    def _check_combination(self) -> ProductConfig:
        if self.kind == "spatial" and (self.paths, self.weights) != ("symmetric", "channelwise"):
            raise ValueError(
                f"kind 'spatial' has neither paths nor coupled weights, found paths {self.paths!r} and weights "
                f"{self.weights!r} (presets tace and ictp set them): take preset carten, or kind 'recursive'"
            )
        if self.orders == "apart" and self.weights == "channelwise":
            raise ValueError(
                "orders 'apart' is of coupled weights (as in preset tace), found channelwise ones: "
                "set weights: coupled, or orders: together"
            )
        return self


class ResidualConfig(_Section):
    """What each layer adds to its products, by a linear map of each element."""

    source: Literal["features", "messages", "both", "none"] = "features"
    """The features before the layer, its messages, or messages that the features were added to."""
    first_layer: bool = True
    """Whether the first of several layers has it."""


class NetworkConfig(_Section):
    """One equivariant message-passing network (TACE arXiv 2509.14961, ICTP arXiv 2405.14253)."""

    preset: Literal["carten", "tace", "ictp"] = "carten"
    """Products of each channel (carten), or as in the papers, which mix channels (tace, ictp)."""
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
    interaction: InteractionConfig = InteractionConfig()
    product: ProductConfig = ProductConfig()
    residual: ResidualConfig = ResidualConfig()

    @property
    def n_product_channels(self) -> int:
        """Channels of products."""
        return self.product.channels or self.n_channels

    def of_layer(self, number: int) -> NetworkConfig:
        """The hyperparameters of one of the layers, counted from 0."""
        if number > 0 or self.n_layers == 1 or self.residual.first_layer:
            return self
        return self.model_copy(update={"residual": ResidualConfig(source="none")})

    def space(self, l_max: int) -> Space:
        """All parts of features up to a rank; layers leave out those that nothing leads to."""
        return Space.up_to(l_max, self.odd_products, self.odd_products and self.time_reversal)

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = PRESETS.get(str(values.get("preset", "carten")), {})
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

    @model_validator(mode="after")
    def _check_channels(self) -> NetworkConfig:
        if self.n_product_channels > self.n_channels:
            raise ValueError(
                f"product.channels is {self.product.channels}, more than the {self.n_channels} channels of the "
                f"features (n_channels): expected at most {self.n_channels}"
            )
        return self
