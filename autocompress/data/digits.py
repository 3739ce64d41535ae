"""The built-in data: 1,797 handwritten digits of 8x8 grey pixels."""

import numpy as np

from autocompress.data.loaded import Loaded
from autocompress.task import Split


def read_digits() -> Loaded:
    """All digits as one split; the source counts ink from 0 to 16, here it is scaled to 0..255.

    Source: https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415  (a second of import that no other form needs)

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    split = Split(inputs=pixels, targets=bunch.target.astype(np.int64))
    return Loaded(name="digits", train=split, class_names=tuple("0123456789"))
