"""Data of any form in, a ``Task`` out.

``load_task`` asks one reader a form (``digits``, ``npz``, ``folder``, ``from_code``). Readers return ``Loaded``: arrays
as they lay. The arrays and labels are then checked, missing splits cut, and the preprocessing is stated, in that
order, at one place each (``inputs``, ``labels``, ``splits``, ``preprocess``).
"""

from autocompress.data.describe import describe
from autocompress.data.load import load_task
from autocompress.data.options import DataOptions, Metric
from autocompress.data.preprocess import model_input, with_input_size, with_normalization

__all__ = ["DataOptions", "Metric", "describe", "load_task", "model_input", "with_input_size", "with_normalization"]
