"""Surgery for layers that torch-pruning does not know, in the form that it asks for."""

from collections.abc import Sequence

import torch
import torch_pruning as tp
from torch import nn

from autocompress.graph.recurrent import RECURRENT, narrowed, remove_inputs


class RecurrentPruner(tp.BasePruningFunc):  # type: ignore[misc]
    """A recurrent layer loses inputs; its hidden units form a group of their own."""

    def prune_out_channels(self, layer: nn.RNNBase, idxs: Sequence[int]) -> nn.RNNBase:
        """Refuse: torch-pruning would take the outputs of both directions for unlike channels."""
        raise NotImplementedError("hidden units are removed as a group of their own")

    def prune_in_channels(self, layer: nn.RNNBase, idxs: Sequence[int]) -> nn.RNNBase:
        """Take inputs out of the first layer, in place."""
        remove_inputs(layer, idxs)
        return layer

    def get_out_channels(self, layer: nn.RNNBase) -> int:
        """Hidden units of all directions."""
        return layer.hidden_size * (2 if layer.bidirectional else 1)

    def get_in_channels(self, layer: nn.RNNBase) -> int:
        """Inputs of the first layer."""
        return layer.input_size


class RmsNormPruner(tp.BasePruningFunc):  # type: ignore[misc]
    """A root-mean-square norm loses channels of its last dimension."""

    def prune_out_channels(self, layer: nn.RMSNorm, idxs: Sequence[int]) -> nn.RMSNorm:
        """Take channels out, in place."""
        *before, width = layer.normalized_shape
        kept = torch.tensor(sorted(set(range(width)) - set(idxs)))
        if layer.elementwise_affine:
            layer.weight = narrowed(layer.weight, -1, kept)
        layer.normalized_shape = (*before, len(kept))
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.RMSNorm) -> int:
        """Channels of the last dimension."""
        return layer.normalized_shape[-1]

    get_in_channels = get_out_channels


def pruners() -> dict[type[nn.Module], tp.BasePruningFunc]:
    """For ``DependencyGraph.build_dependency``."""
    return {nn.RMSNorm: RmsNormPruner(), **{kind: RecurrentPruner() for kind in RECURRENT}}
