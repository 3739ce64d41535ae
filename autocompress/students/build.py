"""An architecture made: its network with random weights."""

from torch import nn

from autocompress.students.family import Architecture


def build(architecture: Architecture, *, shape: tuple[int, ...], n_outputs: int, seed: int) -> nn.Module:
    """The network of ``architecture`` for model inputs of ``shape`` (without the batch), in training mode.

    The same seed gives the same weights.

    Raises:
        SpaceError: the family does not take inputs of this shape, or they are too small for it.
    """
    raise NotImplementedError
