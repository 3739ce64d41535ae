"""Inputs as they lay become one of two kinds: uint8 images, or arrays that are taken as they are."""

from dataclasses import replace

import numpy as np

from autocompress.data.loaded import Loaded
from autocompress.errors import DataError
from autocompress.task import Array, Layout, Split

TOKENS_NDIM = 2  # [n, tokens]


def with_canonical_inputs(loaded: Loaded) -> Loaded:
    """A copy whose inputs are uint8 images ``[n, h, w, c]``, float32 ``[n, ...]`` or int64 token ids ``[n, tokens]``.

    Raises:
        DataError: an array of another kind, values that are not finite, or splits that do not agree.
    """
    splits = {
        name: Split(inputs=_canonical(name, split.inputs), targets=split.targets) for name, split in loaded.present()
    }
    train = splits["train"].inputs
    for name, split in splits.items():
        found = (split.inputs.shape[1:], split.inputs.dtype)
        if found != (train.shape[1:], train.dtype):
            raise DataError(
                f"samples of all splits must have one shape and type; train has {_kind(train)}, "
                f"{name} has {_kind(split.inputs)}; convert {name}"
            )
    return replace(loaded, train=splits["train"], val=splits.get("val"), test=splits.get("test"))


def layout_of(inputs: Array) -> Layout:
    """How canonical ``inputs`` enter the model."""
    return Layout.IMAGE if inputs.dtype == np.uint8 else Layout.AS_STORED


def _canonical(name: str, inputs: Array) -> Array:
    if len(inputs) == 0:
        raise DataError(f"every split needs samples; {name} has none; add some or leave {name} out")
    if inputs.dtype == np.uint8:
        return _images(name, inputs)
    if inputs.dtype.kind == "f" and inputs.ndim > 1:
        return _finite(name, inputs)
    if inputs.dtype.kind in "iu" and inputs.ndim == TOKENS_NDIM:
        return inputs.astype(np.int64, copy=False)
    raise DataError(
        "inputs must be uint8 images [n,h,w,c], float arrays [n,...] or integer token ids [n,tokens]; "
        f"{name} has {inputs.dtype} {list(inputs.shape)}; convert it, e.g. with .astype('float32')"
    )


def _images(name: str, inputs: Array) -> Array:
    images = inputs[..., None] if inputs.ndim == 3 else inputs
    if images.ndim == 4 and images.shape[-1] in (1, 3) and images.size:
        return images
    first = images.ndim == 4 and images.shape[1] in (1, 3)
    step = "move the channels last, .transpose(0, 2, 3, 1)" if first else "or store other data as float32"
    raise DataError(
        f"uint8 arrays are images [n,h,w,c] with 1 or 3 channels, or [n,h,w]; {name} has {list(inputs.shape)}; {step}"
    )


def _finite(name: str, inputs: Array) -> Array:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is reported below
        floats = inputs.astype(np.float32, copy=False)
    bad = ~np.isfinite(floats)
    if bad.any():
        samples = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        raise DataError(
            f"float inputs must be finite in float32; {name} has {int(bad.sum())} NaN or infinite values in "
            f"{len(samples)} samples, the first at index {samples[0]}; clean them or leave these samples out"
        )
    return floats


def _kind(inputs: Array) -> str:
    return f"{inputs.dtype} {list(inputs.shape[1:])}"
