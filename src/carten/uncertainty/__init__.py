"""How uncertain predictions are: ensembles of models or readouts, posteriors of the last layer, calibration."""

from carten.properties.peek import has_uncertainty
from carten.uncertainty.descriptors import descriptors
from carten.uncertainty.ensemble import Ensemble
from carten.uncertainty.files import load_ensemble, model_header, save_ensemble

__all__ = [
    "Ensemble",
    "descriptors",
    "has_uncertainty",
    "load_ensemble",
    "model_header",
    "save_ensemble",
]
