"""Errors a user can act on, each a ``ValueError`` that says what was expected and found, where, and what to do."""


class ConfigError(ValueError):
    """A configuration key or value is wrong."""


class DataError(ValueError):
    """A structure, a label or a data file is wrong."""


class ModelError(ValueError):
    """A model cannot be built as asked, or cannot be applied to what it was given."""


class ModelFileError(ValueError):
    """A model file or checkpoint is foreign, damaged or of a newer format."""


class TrainingError(ValueError):
    """A training run cannot go on."""


def require_positive(settings: object, *names: str) -> None:
    """Check numbers of settings.

    Raises:
        ValueError: one is not above 0.
    """
    for name in names:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be positive, found {getattr(settings, name)}")
