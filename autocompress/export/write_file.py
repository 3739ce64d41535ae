"""From a compressed network to the bytes that are shipped: export, round, train what is rounded, store compactly."""

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.compact import compact, drop_unused
from autocompress.export.correct_bias import correct_biases
from autocompress.export.equalize import equalize
from autocompress.export.file_weights import FileWeight, file_weights
from autocompress.export.linear_kernels import with_linear_kernels
from autocompress.export.onnx_file import to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.export.round_weights import place_integers, rounded_weights
from autocompress.export.store import store_weights
from autocompress.layers.constraint import Constraint
from autocompress.precision import FilePlan
from autocompress.target import Machine
from autocompress.task import Preprocess


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A file whose weights lie open: integers as integers, everything else in fp32. It can be trained, then finished.

    ``bits``: tensor → bits of its integers, for the weights that are rounded.
    """

    proto: ModelProto
    weights: tuple[FileWeight, ...]
    plan: FilePlan
    bits: dict[str, int]

    def finished(self) -> bytes:
        """The file in the fewest bytes."""
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        weights = with_linear_kernels(proto, self.weights, self.plan)
        stored = store_weights(proto, weights, self.plan)
        drop_unused(stored)
        content: bytes = compact(stored).SerializeToString()
        return content


def draft(
    model: nn.Module,
    plan: FilePlan,
    constraints: Mapping[str, Constraint],
    seen: Seen,
    *,
    preprocess: Preprocess,
    machine: Machine,
) -> Draft:
    """The network as a file, rounded as ``plan`` says, its weights not packed yet.

    Args:
        model: left alone.
        plan: which layer gets which precision.
        constraints: what the weights of layers keep to.
        seen: the samples that ranges and means are taken from.
        preprocess: the shape and type of the input.
        machine: decides the type of the activations.
    """
    source = to_onnx(model, preprocess, seen.batch)
    return draft_of(source, file_weights(source, model, constraints), plan, seen, machine)


def draft_of(
    source: ModelProto, weights: tuple[FileWeight, ...], plan: FilePlan, seen: Seen, machine: Machine
) -> Draft:
    """The same from the network's float file and where the weights of its layers lie in it; equalizes in place."""
    if plan.equalize:
        equalize(source, weights)
    rounded = rounded_weights(source, weights, plan, reduce_range=machine.reduce_range)
    if plan.correct_bias:
        correct_biases(source, weights, rounded, seen)
    proto = quantize_onnx(source, plan, seen, machine)
    if proto is source:
        proto = ModelProto()
        proto.CopyFrom(source)
    place_integers(proto, source, weights, rounded)
    bits = {tensor: each.bits for tensor, each in rounded.items()}
    return Draft(proto=proto, weights=weights, plan=plan, bits=bits)
