"""A ``ModelSource`` becomes a module."""

from pathlib import Path

import torch
from torch import nn

from autocompress.errors import ModelError
from autocompress.models.checkpoint import load_weights
from autocompress.models.source import ModelSource
from autocompress.models.timm_zoo import build_timm
from autocompress.user_code import call_factory, is_code


def build_model(source: ModelSource, *, seed: int = 0) -> nn.Module:
    """The model of ``source`` in float32, in evaluation mode; fresh weights are drawn from ``seed``.

    An own factory is given those of ``n_outputs``, ``num_classes`` and ``in_shape`` that its signature names.

    Raises:
        ModelError: no such model, or it cannot be built; ``CheckpointError`` where the weights are to blame.
    """
    if source.pretrained and source.checkpoint is not None:
        raise ModelError(f"weights come from one place; {source.spec} has --pretrained and --checkpoint; leave one out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _from_code(source) if is_code(source.spec) else build_timm(source)
    if source.checkpoint is not None:
        load_weights(model, Path(source.checkpoint))
    return model.float().eval()


def _from_code(source: ModelSource) -> nn.Module:
    if source.pretrained:
        raise ModelError(
            f"--pretrained is for timm names; {source.spec} is own code; load the weights in the factory, "
            "or use --checkpoint FILE"
        )
    offered = {"n_outputs": source.n_outputs, "num_classes": source.n_outputs, "in_shape": source.in_shape}
    model = call_factory(source.spec, offered, error=ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{source.spec} must return a torch nn.Module, got {type(model).__name__}")
    return model
