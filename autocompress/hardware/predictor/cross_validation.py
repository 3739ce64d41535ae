"""Judging a profile: each network as fits on the others see it, beside the baselines on the same splits."""

from collections.abc import Sequence

from autocompress.clock import now
from autocompress.hardware.predictor.baselines import fit_baselines
from autocompress.hardware.predictor.card import AccuracyCard
from autocompress.hardware.predictor.figures import Judged, figures_by, figures_of
from autocompress.hardware.predictor.fit import FOLDS, folds_of_networks
from autocompress.hardware.predictor.fit import Judged as Predicted


def card_of(predicted: Sequence[Predicted], a_a_floor: float | None = None) -> AccuracyCard:
    """The card of a fit.

    Args:
        predicted: what ``fit.fit_and_judge`` says of networks that it left out, in its order.
        a_a_floor: goes into the card.
    """
    return AccuracyCard(
        judged_at=now(),
        files=len(predicted),
        folds=FOLDS,
        all=figures_of([_judged(each) for each in predicted]),
        by_family=figures_by(predicted, lambda each: each.observation.family, _judged),
        by_precision=figures_by(predicted, lambda each: each.observation.precision, _judged),
        baselines={name: figures_of(judged) for name, judged in _baselines(predicted).items()},
        a_a_floor=a_a_floor,
    )


def _judged(each: Predicted) -> Judged:
    return Judged(measured_ms=each.observation.median_us / 1e3, predicted_ms=each.ms, interval_ms=each.interval_ms)


def _baselines(predicted: Sequence[Predicted]) -> dict[str, list[Judged]]:
    """Baselines on the folds that the predictor was judged on."""
    found: dict[str, list[Judged]] = {}
    folds = folds_of_networks([each.observation for each in predicted])
    for number in sorted(set(folds)):
        parts = list(zip(predicted, folds, strict=True))
        fitted = fit_baselines([each.observation for each, fold in parts if fold != number])
        for each in [each for each, fold in parts if fold == number]:
            kernels = [kernel for kernel, _ in each.observation.parsed()]
            measured_ms = each.observation.median_us / 1e3
            for name, baseline in fitted.items():
                predicted_ms = baseline.predict_us(kernels) / 1e3
                found.setdefault(name, []).append(Judged(measured_ms=measured_ms, predicted_ms=predicted_ms))
    return found
