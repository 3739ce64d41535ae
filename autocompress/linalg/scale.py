"""Scale shared among factors."""

import math

from torch import Tensor

TINY = 1e-30  # nothing is divided by less


def of_equal_norms(*factors: Tensor) -> tuple[Tensor, ...]:
    """The factors, scaled so that all have the same Frobenius norm and their product stays.

    Then a gradient step moves all of them alike. A factor of zeros stays zero.
    """
    norms = [max(float(factor.norm()), TINY) for factor in factors]
    shared = math.exp(sum(map(math.log, norms)) / len(norms))
    return tuple(factor * (shared / norm) for factor, norm in zip(factors, norms, strict=True))
