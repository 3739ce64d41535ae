"""The accuracy card of a profile: how far off predictions are for files that were left out of the fit."""

from autocompress.facts import Facts
from autocompress.hardware.predictor.figures import Figures


class AccuracyCard(Facts):
    """Figures by cross-validation over files, every network whole in one fold; baselines on the same splits.

    ``a_a_floor`` is the median relative difference between two measurements of the same file, minutes apart: no error
    below it means anything.
    """

    judged_at: str
    files: int
    folds: int
    all: Figures
    by_family: dict[str, Figures]
    by_precision: dict[str, Figures]
    baselines: dict[str, Figures]
    a_a_floor: float | None
