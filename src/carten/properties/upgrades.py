"""Headers of older model files, brought to the current format step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from carten.errors import ModelFileError


def _name_variables(header: dict[str, Any]) -> dict[str, Any]:
    """From format 1, whose derivatives were of first order and whose models had no inputs."""
    rows = []
    for row in header["properties"]:
        routes = [{**r, "wrt": [r["wrt"]]} if r["kind"] == "Derivative" else r for r in row["routes"]]
        rows.append({**row, "routes": routes})
    return {**header, "format": 2, "properties": rows, "inputs": []}


def _list_terms(header: dict[str, Any]) -> dict[str, Any]:
    """From format 2, whose models were networks alone."""
    return {**header, "format": 3, "terms": []}


def _reweigh(header: dict[str, Any]) -> dict[str, Any]:
    """From format 3, whose products divided by roots of numbers of paths: their weights are rescaled."""
    return {**header, "format": 4, "by_roots": True}


def _exchange_by_densities(header: dict[str, Any]) -> dict[str, Any]:
    """From format 4, whose radial functions depended on the moments that neighbours exchange."""
    if exchanged := [row["name"] for row in header["inputs"] if row["embed"]["kind"] == "Exchange"]:
        raise ModelFileError(
            f"a model of format 4 exchanges {exchanged[0]} in a way that is no longer evaluated: train it anew"
        )
    return {**header, "format": 5}


def _add_checksum(header: dict[str, Any]) -> dict[str, Any]:
    """From format 5, whose files had no checksum."""
    return {**header, "format": 6}


def _leave_ions_alone(header: dict[str, Any]) -> dict[str, Any]:
    """From format 6, whose fields did not pull on charged structures, and whose features did not know of time."""
    network = {**header["network"], "time_reversal": False}
    return {**header, "format": 7, "network": network, "pulls_ions": False}


def _may_know_errors(header: dict[str, Any]) -> dict[str, Any]:
    """From format 7, whose models knew nothing of their errors."""
    return {**header, "format": 8}


def _name_presets(header: dict[str, Any]) -> dict[str, Any]:
    """From format 8, whose preset ``tace`` is now ``carten``, and whose spatial products may have unused options."""
    named = {**header, "format": 9, "network": with_present_preset(header["network"])}
    provenance = header.get("provenance", {})
    if model := provenance.get("config", {}).get("model"):
        config = {**provenance["config"], "model": with_present_preset(model)}
        named["provenance"] = {**provenance, "config": config}
    return named


def with_present_preset(network: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters that were written before format 9, with the present name of their preset."""
    named = {**network, "preset": {"tace": "carten"}.get(network["preset"], network["preset"])}
    if network["product"]["kind"] == "spatial":
        named["product"] = {**network["product"], "paths": "symmetric", "weights": "channelwise"}
    return named


UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _name_variables,
    2: _list_terms,
    3: _reweigh,
    4: _exchange_by_densities,
    5: _add_checksum,
    6: _leave_ions_alone,
    7: _may_know_errors,
    8: _name_presets,
}
"""From a format version to the next: header to header."""
