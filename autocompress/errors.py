"""What can go wrong, as one tree.

::

    AutocompressError              exit code 1
    ├── InputError                 exit code 2: something that was handed in
    │   ├── BudgetError
    │   ├── DataError
    │   ├── ModelError
    │   │   └── CheckpointError
    │   ├── RecipeError
    │   ├── SpaceError
    │   ├── ProfileError           a latency profile
    │   └── OutputError            the output folder
    ├── MissingDependencyError     an optional package is not installed
    ├── MeasurementError           the runtime could not load or run a file
    └── RunError                   a run that could not go on, e.g. every trial failed

Every message gives the rule, the value that broke it, and the next step.
"""

import difflib
from collections.abc import Iterable


class AutocompressError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code: int = 1


class InputError(AutocompressError):
    """Something that was handed in cannot be used."""

    exit_code = 2


class BudgetError(InputError):
    """A budget that cannot be read, or that contradicts itself."""


class DataError(InputError):
    """Data that cannot be read or that does not fit together."""


class ModelError(InputError):
    """A model that cannot be built or run."""


class CheckpointError(ModelError):
    """Weights that do not fit the model, or that are not safe to read."""


class RecipeError(InputError):
    """A recipe that cannot be applied."""


class SpaceError(InputError):
    """A search space that does not hold together."""


class ProfileError(InputError):
    """A latency profile that cannot be read, or that does not hold here."""


class OutputError(InputError):
    """An output folder that cannot be used."""


class MissingDependencyError(AutocompressError):
    """An optional package is needed and not installed."""


class MeasurementError(AutocompressError):
    """The runtime could not load, run or time a file."""


class RunError(AutocompressError):
    """A run that cannot go on."""


def near(name: str, known: Iterable[str]) -> str:
    """A hint such as ``; near: resnet18, resnet26``, or nothing when no known name is close."""
    hits = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; near: {', '.join(hits)}" if hits else ""
