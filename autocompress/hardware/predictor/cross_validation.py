"""Judging a profile by cross-validation: each file is predicted by a fit on others."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autocompress.clock import now
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.predictor.baselines import fit_baselines
from autocompress.hardware.predictor.card import AccuracyCard
from autocompress.hardware.predictor.figures import Judged, figures_by, figures_of
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import fit

FOLDS = 5
LEAST_FILES = 20  # fewer say nothing about files to come


@dataclass(frozen=True, kw_only=True)
class _LeftOut:
    """One observation as the fit on the others, and the baselines, saw it."""

    observation: Observation
    judged: Judged
    baselines: dict[str, Judged]


def judge(
    observations: Sequence[Observation], circumstances: Circumstances, a_a_floor: float | None = None
) -> AccuracyCard | None:
    """The card; None where there are too few files for one. Costs as many fits as there are folds.

    Args:
        observations: of one profile.
        circumstances: its own.
        a_a_floor: goes into the card.
    """
    if len(observations) < LEAST_FILES:
        return None
    found = [each for part in folds_of(observations) for each in _judged(observations, part, circumstances)]
    names = found[0].baselines
    return AccuracyCard(
        judged_at=now(),
        files=len(found),
        folds=FOLDS,
        all=figures_of([each.judged for each in found]),
        by_family=figures_by(found, lambda each: each.observation.family, lambda each: each.judged),
        by_precision=figures_by(found, lambda each: each.observation.precision, lambda each: each.judged),
        baselines={name: figures_of([each.baselines[name] for each in found]) for name in names},
        a_a_floor=a_a_floor,
    )


def folds_of(observations: Sequence[Observation]) -> list[set[int]]:
    """Places of the observations in each fold; a network in two precisions, or measured twice, is in one."""
    networks = [re.sub(r"^(\w+-\d+).*", r"\1", each.name) for each in observations]
    order = np.random.default_rng(0).permutation(sorted(set(networks))).tolist()
    fold = {network: place % FOLDS for place, network in enumerate(order)}
    parts: list[set[int]] = [set() for _ in range(FOLDS)]
    for place, network in enumerate(networks):
        parts[fold[network]].add(place)
    return [part for part in parts if part]


def _judged(observations: Sequence[Observation], left_out: set[int], here: Circumstances) -> Iterator[_LeftOut]:
    seen = [each for place, each in enumerate(observations) if place not in left_out]
    held = [observations[place] for place in sorted(left_out)]
    predictor, baselines = fit(seen, here), fit_baselines(seen)
    recipes = [[kernel for kernel, _ in each.parsed()] for each in held]
    ms, low, high = (array.tolist() for array in predictor.predict_many(recipes))
    for place, (each, kernels) in enumerate(zip(held, recipes, strict=True)):
        measured_ms = each.median_us / 1e3
        yield _LeftOut(
            observation=each,
            judged=Judged(measured_ms=measured_ms, predicted_ms=ms[place], interval_ms=(low[place], high[place])),
            baselines={
                name: Judged(measured_ms=measured_ms, predicted_ms=baseline.predict_us(kernels) / 1e3)
                for name, baseline in baselines.items()
            },
        )
