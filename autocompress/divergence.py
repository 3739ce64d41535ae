"""How far a recipe moves a network's outputs before any recovery, with the roundings of its file.

The network runs in PyTorch. Integer weights and codebooks are rounded as the export rounds them; int8 activations are
rounded where they enter a layer, with the range of the batch in the place of the calibrated one. Not emulated: what the
file rounds between layers, ranges that clip, scales per block of inputs, bias correction and equalization.

BatchNorm takes mean and variance of the very samples that are compared, in the original as in the changed network.
That is its re-estimation without a pass of its own, and a recipe that changes nothing has the divergence 0.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autocompress.errors import RunError
from autocompress.export.round_weights import REDUCED_BITS, STORED_BITS, round_own
from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.replay import Recording
from autocompress.graph.surgery import modules_of
from autocompress.models.config import weights_digest
from autocompress.passes.compose import Composed, compose
from autocompress.passes.quantize import first_holders, granted
from autocompress.precision import Activations, Format, Precision
from autocompress.recipe import Recipe
from autocompress.recover.losses import softened_kl
from autocompress.target import Machine
from autocompress.task import Task
from autocompress.trial import Bench, calibration_inputs, pass_context

SAMPLES = 256
METHOD = 1  # counts on when another way to measure gives other numbers
LEAST_BATCH = 32  # BatchNorm wants a mean over some samples
MOST_VALUES = 2**20  # of the inputs of one forward pass: all samples at once up to 36 × 36 pixels


def divergence(bench: Bench, recipe: Recipe, original: Recording | None = None) -> float:
    """KL(original || changed) in nats per sample; of other tasks the mean squared change over the outputs' variance.

    ``original`` is that of ``original_of``, which is asked where it is missing. It is cheapest where recipes that
    change the same part of the network follow one another: what runs before the change is computed once.

    Raises:
        RecipeError: the recipe does not fit the base.
        RunError: the outputs are no numbers.
    """
    original = original or original_of(bench)
    torch.manual_seed(recipe.seed)
    composed = compose(bench.base, recipe, pass_context(bench, recipe.seed))
    touched = round_as_the_file(composed, bench.machine)
    return distance(bench.task, original.outputs, original.outputs_of(composed.model, touched))


def original_of(bench: Bench, samples: int = SAMPLES) -> Recording:
    """The original's outputs on some calibration samples; kept in this process until another original is asked for."""
    return _recording(_Original(digest=bench_digest(bench, samples), bench=bench, samples=samples))


def bench_digest(bench: Bench, samples: int = SAMPLES) -> str:
    """SHA-256 of what a recipe's divergence depends on beside the recipe: weights, samples, arithmetic, method."""
    inputs = calibration_inputs(bench, samples)
    facts = (METHOD, bench.task.loss is None, bench.machine.reduce_range, str(inputs.dtype), inputs.shape)
    digest = hashlib.sha256(f"{weights_digest(bench.base)} {facts}".encode())
    digest.update(np.ascontiguousarray(inputs).data)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Original:
    """Whose outputs are kept; two of equal digest are one."""

    digest: str
    bench: Bench = field(compare=False)
    samples: int


@lru_cache(maxsize=1)
def _recording(original: _Original) -> Recording:
    inputs = torch.from_numpy(calibration_inputs(original.bench, original.samples))
    return Recording(original.bench.base, batches_of(inputs), _ready)


def forget_recordings() -> None:
    """Free what is kept of an original between divergences, up to half a gigabyte."""
    _recording.cache_clear()


def batches_of(inputs: Tensor) -> tuple[Tensor, ...]:
    """The samples in parts of equal size, of which one forward pass each fits into memory."""
    values = max(1, inputs[0].numel())
    batch = max(LEAST_BATCH, MOST_VALUES // values)
    return torch.tensor_split(inputs, max(1, len(inputs) // batch)) if len(inputs) > batch else (inputs,)


def distance(task: Task, original: Tensor, changed: Tensor) -> float:
    """KL(original || changed) of class probabilities; for other losses the squared error by the variance."""
    if task.loss is None:
        found = softened_kl(changed, original, 1.0)
    else:
        found = F.mse_loss(changed, original) / original.var().clamp_min(torch.finfo(original.dtype).tiny)
    value = float(found)
    if not value < float("inf"):
        raise RunError(f"the outputs of a compressed network must be numbers, got a divergence of {value}")
    return max(0.0, value)


def _ready(model: nn.Module) -> None:
    """Eval mode, but for BatchNorm, which takes the statistics of its batch."""
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()


@torch.no_grad()
def round_as_the_file(composed: Composed, machine: Machine) -> frozenset[str]:
    """Round weights in place as the file will, and inputs of layers in int8; the layers that were touched."""
    touched: dict[str, Precision] = {}
    firsts = first_holders(composed.model)
    for name, layer in modules_of(composed.model, WEIGHTED):
        precision = granted(layer, composed.plan.of(firsts[name]), composed.constraints.get(name))
        if precision == Precision():
            continue
        touched[name] = precision
        if firsts[name] == name:
            _round_weight(layer, name, precision, composed, machine)
        if precision.activations is not Activations.FP32:
            layer.register_forward_pre_hook(_in_eight_bits)
    return frozenset(touched)


def _round_weight(layer: nn.Module, name: str, precision: Precision, composed: Composed, machine: Machine) -> None:
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    if precision.weights is Format.FP16:
        weight.copy_(weight.half().float())
    if precision.weights.bits is None:
        return
    reduced = machine.reduce_range and precision.activations is not Activations.FP32
    bits = min(precision.weights.bits, REDUCED_BITS if reduced else STORED_BITS)
    integers, step = round_own(weight.detach().numpy(), composed.constraints.get(name), bits)
    weight.copy_(torch.from_numpy(integers * step.reshape(-1, *[1] * (weight.dim() - 1))))


def _in_eight_bits(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The first input rounded to 256 levels between its least and its largest value."""
    low, high = torch.aminmax(inputs[0])
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round().to(torch.int32)
    return (torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero, 0, 255), *inputs[1:])
