"""From stored samples to model inputs: stated as ``Preprocess``, computed here and nowhere else in numpy."""

from dataclasses import replace

import numpy as np
from PIL import Image

from autocompress.data.inputs import layout_of
from autocompress.errors import DataError
from autocompress.task import Array, Layout, Preprocess, Split, Task

MEASURED = "images are normalized by mean and std of the train split"


def model_input(preprocess: Preprocess, raw: Array) -> Array:
    """What the model is fed for a batch ``raw [n, ...]`` as it is stored.

    Images: float32 ``[n, c, h, w]``, C-contiguous, ``(raw / 255 - mean) / std`` computed in float32 in that order.
    Otherwise: ``raw`` in the stated type.

    Raises:
        DataError: an image batch that is not uint8 ``[n, h, w, c]`` of the stated shape.
    """
    if preprocess.layout is Layout.AS_STORED:
        return np.ascontiguousarray(raw, dtype=preprocess.dtype)
    c, h, w = preprocess.shape
    if raw.dtype != np.uint8 or raw.shape[1:] != (h, w, c):
        raise DataError(
            f"images are stored as uint8 [n,{h},{w},{c}]; got {raw.dtype} {list(raw.shape)}; resize or convert them"
        )
    x = np.ascontiguousarray(raw.transpose(0, 3, 1, 2)).astype(np.float32)
    x /= np.float32(255)
    if preprocess.mean is not None:
        x -= _per_channel(preprocess.mean)
    if preprocess.std is not None:
        x /= _per_channel(preprocess.std)
    return x


def preprocess_of(inputs: Array, *, resize: str = "none") -> Preprocess:
    """How canonical train ``inputs`` enter the model; images are normalized by their own mean and std."""
    if layout_of(inputs) is Layout.AS_STORED:
        return Preprocess(layout=Layout.AS_STORED, shape=inputs.shape[1:], dtype=str(inputs.dtype))
    _, h, w, c = inputs.shape
    mean, std = pixel_statistics(inputs)
    return Preprocess(layout=Layout.IMAGE, shape=(c, h, w), mean=mean, std=std, resize=resize)


def pixel_statistics(images: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of ``images / 255``, exact, rounded to six digits.

    A channel that never changes has the deviation 1, so that it can be divided by.
    """
    means, stds = [], []
    values = np.arange(256) / 255
    for channel in range(images.shape[-1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 1024):  # bincount makes int64 of what it counts: a slice at a time
            counts += np.bincount(images[start : start + 1024, ..., channel].reshape(-1), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ values)
        std = float(np.sqrt(share @ (values - mean) ** 2))
        means.append(round(mean, 6))
        stds.append(round(std, 6) or 1.0)
    return tuple(means), tuple(stds)


def with_normalization(task: Task, mean: tuple[float, ...], std: tuple[float, ...]) -> Task:
    """A copy whose images are normalized by ``mean`` and ``std``, both of pixels scaled to 0..1.

    Raises:
        DataError: no images, another number of channels, or a std that is not above zero.
    """
    preprocess = task.preprocess
    if preprocess.layout is not Layout.IMAGE:
        raise DataError(f"mean and std are for uint8 images; {task.name} is taken as stored; leave them out")
    channels = preprocess.shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise DataError(f"{name} needs one value a channel; {task.name} has {channels}, got {list(values)}")
        if not np.isfinite(values).all():
            raise DataError(f"{name} must be finite, got {list(values)}")
    if min(std) <= 0:
        raise DataError(f"std must be above zero in every channel, got {list(std)}; use 1 for a constant channel")
    return replace(
        task,
        preprocess=preprocess.model_copy(update={"mean": tuple(mean), "std": tuple(std)}),
        notes=tuple(note for note in task.notes if note != MEASURED),
    )


def with_input_size(task: Task, size: int) -> Task:
    """A copy whose images are ``size`` by ``size``; other proportions are stretched.

    Raises:
        DataError: no images, or a size below 1.
    """
    preprocess = task.preprocess
    if preprocess.layout is not Layout.IMAGE:
        raise DataError(f"an input size is for uint8 images; {task.name} is taken as stored; leave it out")
    if size < 1:
        raise DataError(f"the input size must be at least 1 pixel, got {size}")
    if preprocess.shape[1:] == (size, size):
        return task
    step = f"PIL bilinear to {size}x{size}"
    resize = step if preprocess.resize == "none" else f"{preprocess.resize}; then {step}"
    shape = (preprocess.shape[0], size, size)
    return replace(
        task,
        train=_resized(task.train, size),
        val=_resized(task.val, size),
        test=_resized(task.test, size),
        preprocess=preprocess.model_copy(update={"shape": shape, "resize": resize}),
    )


def _resized(split: Split, size: int) -> Split:
    n, _, _, c = split.inputs.shape
    resized = np.empty((n, size, size, c), dtype=np.uint8)
    for index, pixels in enumerate(split.inputs):
        image = Image.fromarray(pixels[..., 0] if c == 1 else pixels)
        resized[index] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, c)
    return Split(inputs=resized, targets=split.targets)


def _per_channel(values: tuple[float, ...]) -> Array:
    return np.array(values, dtype=np.float32)[:, None, None]
