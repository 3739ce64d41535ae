"""From one device to another, or to another number of threads, by a few networks measured there.

A kernel's time there follows from what is predicted here: ``log t' = log t + a + b·log t``, with an ``a`` and a ``b``
for each kind of kernel. Large kernels gain from a second thread, small ones do not: that is what ``b`` is for. Kinds
that the measured networks have little of stay near the others.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autocompress.errors import MeasurementError
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.predictor.forest import Floats
from autocompress.hardware.predictor.kernel_times import kernel_times
from autocompress.hardware.predictor.many import Known
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import Guess, LatencyPredictor, Transfer

FEWEST = 5  # networks
PULL = 3.0  # of kernels of usual weight, towards what kinds have in common
PRIOR = 5.0  # networks against which the known uncertainty counts as much
NORMAL_90 = 1.645


def transferred(
    predictor: LatencyPredictor, observations: Sequence[Observation], circumstances: Circumstances
) -> LatencyPredictor:
    """``predictor``, fitted under other circumstances, for those that ``observations`` were made under.

    Raises:
        MeasurementError: fewer than ``FEWEST`` networks.
    """
    usable = [each for each in observations if all(kernel[-1] is not None for kernel in each.kernels)]
    if len(usable) < FEWEST:
        raise MeasurementError(
            f"a profile of another device can be adapted by at least {FEWEST} networks measured there, "
            f"got {len(usable)}; measure more of the kit"
        )
    networks = [kernel_times(each, predictor.cost) for each in usable]
    guesses = [predictor.guesses([each.kernel for each in network]) for network in networks]
    pairs = [
        (guess, each.us)
        for network, guessed in zip(networks, guesses, strict=True)
        for guess, each in zip(guessed, network, strict=True)
    ]
    there = replace(
        predictor,
        circumstances=circumstances,
        transfer=_fitted(pairs),
        scale=1.0,
        reference_ms=None,
        _known=Known(),
    )
    wholes = [there.whole(there.guesses([each.kernel for each in network])) for network in networks]
    ratios = np.array([each.median_us / 1e3 / whole.ms for each, whole in zip(usable, wholes, strict=True)])
    shift = float(np.median(np.log(ratios)))
    strays = (np.log(ratios) - shift) / [whole.spread for whole in wholes]
    seen = NORMAL_90 * float(np.sqrt(np.mean(strays**2)))
    quantile = (PRIOR * predictor.quantile + len(usable) * seen) / (PRIOR + len(usable))
    return replace(there, scale=float(np.exp(shift)), quantile=max(quantile, predictor.quantile), _known=Known())


def _fitted(pairs: Sequence[tuple[Guess, float]]) -> Transfer:
    """Ridge regression: a line that all kinds share, and what each kind differs by."""
    kinds = sorted({Transfer.kind_of(guess.path) for guess, _ in pairs})
    size = np.log([guess.us for guess, _ in pairs])
    target = np.log([us for _, us in pairs]) - size
    weight = np.sqrt(np.clip([us for _, us in pairs], 0.5, 300.0))
    weight /= weight.mean()
    columns = np.zeros((len(pairs), 2 + 2 * len(kinds)))
    columns[:, 0], columns[:, 1] = 1.0, size
    for row, (guess, _) in enumerate(pairs):
        place = 2 + 2 * kinds.index(Transfer.kind_of(guess.path))
        columns[row, place], columns[row, place + 1] = 1.0, size[row]
    pull = np.diag(np.sqrt([1e-6, 1e-6, *[PULL, 10 * PULL] * len(kinds)]))
    stacked = np.vstack([columns * weight[:, None], pull])
    found, *_ = np.linalg.lstsq(stacked, np.append(target * weight, np.zeros(len(pull))), rcond=None)
    shared: Floats = found[:2]
    lines = {kind: tuple((shared + found[2 + 2 * n : 4 + 2 * n]).tolist()) for n, kind in enumerate(kinds)}
    return Transfer(lines=lines, shared=tuple(shared.tolist()))
