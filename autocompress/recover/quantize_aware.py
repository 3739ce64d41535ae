"""Quantization-aware recovery: the file itself is trained, with exactly the roundings that it will be run with.

The draft of the file becomes a network whose weights are rounded at every step, as Jacob et al. 2018, sec. 3,
https://arxiv.org/abs/1712.05877, do in the original network. BatchNorm has been folded by then: static folding in Nagel
et al. 2021, sec. 5.2.1, https://arxiv.org/abs/2106.08295.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from autocompress.export.file_weights import FileWeight, by_tensor
from autocompress.export.trainable.network import OnnxNetwork
from autocompress.export.trainable.weight import WeightRule
from autocompress.export.trainable.write_back import write_back
from autocompress.export.write_file import Draft
from autocompress.layers.constraint import held
from autocompress.recipe import Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import Progress, recover

SHARE = 1 / 3  # of the recovery's steps; the steps before them are cheaper and find most of the way
SLOWER = 0.3  # times the recovery's learning rate: the weights are nearly where they should be


def float_steps(settings: Recovery) -> int:
    """How many of the steps come before the roundings."""
    return settings.steps - rounded_steps(settings) if settings.quantize_aware else settings.steps


def rounded_steps(settings: Recovery) -> int:
    """How many of the steps train the file; at least one where there are any."""
    return min(settings.steps, max(1, round(settings.steps * SHARE))) if settings.quantize_aware else 0


def train_draft(
    draft: Draft,
    stream: SampleStream,
    settings: Recovery,
    *,
    teacher: Tensor | None,
    limit_s: float = math.inf,
    progress: Progress | None = None,
) -> tuple[Draft, OnnxNetwork, int]:
    """The draft with trained weights, the network that computes what it computes, and how many steps that took.

    Ranges of activations stay those of calibration. Zeros, clusters and tied weights are kept.

    Args:
        draft: left alone.
        stream: the run's order of training samples, taken from its beginning.
        settings: of the whole recovery.
        teacher: outputs to follow, ``[at least the steps' samples, outputs]``.
        limit_s: seconds after which the schedule is at its end whatever steps are left.
        progress: called after each step.

    Raises:
        ModelError: an operator of the file that cannot be trained.
        RunError: the loss is no number any more.
    """
    network = trainable(draft)
    slower = settings.model_copy(
        update={
            "steps": rounded_steps(settings),
            "learning_rate": settings.learning_rate * SLOWER,
            "distill": settings.distill.model_copy(update={"features": 0.0}),
        }
    )
    with held(network.constrained()):
        taken = recover(network, stream, slower, teacher=teacher, limit_s=limit_s, progress=progress)
    return replace(draft, proto=write_back(draft.proto, network)), network, taken


def trainable(draft: Draft) -> OnnxNetwork:
    """The network that the draft's file is, its tied weights tied."""
    stored = {item.name for item in draft.proto.graph.initializer}
    names = {
        weight.tensor: name
        for weight in by_tensor(draft.weights).values()
        if (name := f"{weight.tensor}_quantized") in stored or (name := weight.tensor) in stored
    }
    rules = {
        names[weight.tensor]: _rule(weight, draft.bits.get(weight.tensor))
        for weight in draft.weights
        if weight.tensor in names and _needs_rule(weight, draft.bits.get(weight.tensor))
    }
    network = OnnxNetwork(draft.proto, rules)
    first: dict[str, str] = {}
    for weight in draft.weights:
        if weight.tied_to is not None and weight.tensor in names:
            name = names[weight.tensor]
            other = first.setdefault(weight.tied_to, name)
            if other != name:
                network.tie(name, other)
    return network.eval()


def _needs_rule(weight: FileWeight, bits: int | None) -> bool:
    return weight.constraint is not None or weight.channel_scale is not None or bits not in (None, 8)


def _rule(weight: FileWeight, bits: int | None) -> WeightRule:
    scale = None if weight.channel_scale is None else torch.from_numpy(weight.channel_scale)
    return WeightRule(bits=bits, constraint=weight.constraint, channel_scale=scale, transposed=weight.transposed)
