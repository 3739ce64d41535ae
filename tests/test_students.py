"""Students are built for any input, the same from the same seed, and end in files that compute what they do."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from onnx import ModelProto
from tiny_exports import machine, run
from torch import nn

from autocompress.errors import SpaceError
from autocompress.export.calibrate import Seen
from autocompress.export.onnx_file import to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.graph.program import from_portable, to_portable
from autocompress.graph.surgery import modules_of
from autocompress.precision import INT8, FilePlan
from autocompress.recipe import Recovery
from autocompress.students.build import build, input_size
from autocompress.students.family import Architecture, InputKind, largest, load_family, sample, smallest
from autocompress.students.knobs import FAMILIES
from autocompress.students.recovery import student_recovery
from autocompress.students.scaling import strides
from autocompress.task import Layout, Preprocess

SHAPES = {
    InputKind.IMAGE: [(3, 16, 16), (1, 8, 12), (3, 65, 70)],
    InputKind.VECTOR: [(12,), (1,)],
    InputKind.SERIES: [(3, 32), (50, 6), (1, 4)],
}
# The least of every parameter, but for those that bring other operators.
SPECIAL = {
    "resnet": {"squeeze_excite": True, "fine_stem": True, "depth_4": 1, "growth": 1.5, "resolution": 0.75},
    "mbconv": {"squeeze_excite": True, "depth_2": 2, "kernel": 5, "resolution": 0.75},
    "convnext": {"depth_2": 2, "kernel": 5, "expansion": 3, "resolution": 0.75},
    "vit": {"heads": 3, "expansion": 2, "resolution": 1.0},
    "mlp": {"depth": 2, "expansion": 2},
    "conv1d": {"separable": True, "depth_4": 1, "kernel": 5},
}
EXPORTED = [*((name, True) for name in FAMILIES), ("vit", False), ("mlp", False)]


def architecture_of(name: str, special: bool) -> Architecture:
    least = smallest(load_family(name))
    return Architecture(family=name, values=least.values | (SPECIAL[name] if special else {}))


def shape_for(name: str) -> tuple[int, ...]:
    return SHAPES[FAMILIES[name].kind][0]


@cache
def student(name: str, special: bool) -> nn.Module:
    """With statistics as after training: BatchNorm that changes nothing would hide a wrong one."""
    network = build(architecture_of(name, special), shape=shape_for(name), n_outputs=4, seed=0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for _ in range(3):
            network(torch.randn(16, *shape_for(name)))
    return network.eval()


def inputs(name: str, count: int) -> torch.Tensor:
    return torch.randn(count, *shape_for(name), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_smallest_largest_and_random_ones_run_on_every_input_of_their_kind(name):
    family = load_family(name)
    for architecture in (smallest(family), largest(family), sample(family, np.random.default_rng(0))):
        for shape in SHAPES[family.kind]:
            with torch.device("meta"):  # shapes alone: the largest would take seconds
                network = build_meta(architecture, shape)
                assert network(torch.zeros(2, *shape)).shape == (2, 4)


def build_meta(architecture: Architecture, shape: tuple[int, ...]) -> nn.Module:
    return build(architecture, shape=shape, n_outputs=4, seed=0)


@pytest.mark.parametrize(("name", "special"), EXPORTED)
def test_the_file_computes_what_the_student_does_in_floats_and_in_int8(name, special):
    network, x = student(name, special), inputs(name, 8)
    expected = network(x).detach().numpy()
    spread = np.ptp(expected)
    preprocess = Preprocess(layout=Layout.AS_STORED, shape=shape_for(name))
    proto = to_onnx(network, preprocess, 1)
    np.testing.assert_allclose(run(proto, x), expected, atol=1e-4 * spread)
    seen = Seen(inputs=x.numpy(), batch=1)
    in_int8 = quantize_onnx(ModelProto.FromString(proto.SerializeToString()), FilePlan(default=INT8), seen, machine())
    assert np.abs(run(in_int8, x) - expected).mean() < 0.06 * spread
    weighted = sum(1 for _ in modules_of(network, (nn.Conv1d, nn.Conv2d, nn.Linear)))
    rounded = {node.input[0] for node in in_int8.graph.node if node.op_type == "DequantizeLinear"}
    stored = {item.name for item in in_int8.graph.initializer}
    assert len(rounded & stored) >= weighted
    back = from_portable(to_portable(network, preprocess.shape, preprocess.dtype))
    np.testing.assert_allclose(back(x).detach().numpy(), expected, atol=1e-4 * spread)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(name):
    architecture = architecture_of(name, special=True)
    first, again, other = (weights_of(architecture, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    weights_of(architecture, 0)
    assert torch.equal(torch.rand(1), expected)


def weights_of(architecture: Architecture, seed: int) -> torch.Tensor:
    network = build(architecture, shape=shape_for(architecture.family), n_outputs=4, seed=seed)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_changes_the_network(name):
    """With a value one step further, it has other weights or strides, or sees another size."""
    least = Architecture(
        family=name,
        values=smallest(load_family(name)).values | {"depth_4": 1}
        if "depth_4" in FAMILIES[name].knobs
        else smallest(load_family(name)).values,
    )
    for parameter, choices in load_family(name).parameters.items():
        others = [choice for choice in sorted(choices) if choice != least.values[parameter]]
        other = Architecture(family=name, values=least.values | {parameter: others[0]})
        assert fingerprint(other) != fingerprint(least), parameter


def fingerprint(architecture: Architecture) -> object:
    shape = {InputKind.IMAGE: (3, 64, 64), InputKind.VECTOR: (12,), InputKind.SERIES: (3, 64)}[architecture.kind]
    network = build(architecture, shape=shape, n_outputs=4, seed=0)
    size = input_size(architecture, shape) if architecture.kind is InputKind.IMAGE else ()
    heads = [module.num_heads for module in network.modules() if hasattr(module, "num_heads")]
    strides_of = [module.stride for _, module in modules_of(network, nn.Conv2d)]
    return [parameter.shape for parameter in network.parameters()], size, heads, strides_of


@pytest.mark.parametrize(
    ("size", "stem", "stages"),
    [(4, 1, (1, 1, 1, 1)), (8, 1, (1, 2, 1, 1)), (32, 1, (1, 2, 2, 2)), (96, 2, (1, 2, 2, 2)), (224, 4, (1, 2, 2, 2))],
)
def test_small_images_are_halved_less(size, stem, stages):
    assert strides(size, 4, stem=(0, 2)) == (stem, stages)


def test_a_coarse_stem_halves_once_more_where_it_may():
    assert strides(96, 4, stem=(0, 2), fine=False) == (4, (1, 2, 2, 1))
    assert strides(224, 4, stem=(0, 2), fine=False) == strides(224, 4, stem=(0, 2))
    assert strides(4, 4, stem=(0, 2), fine=False) == (1, (1, 1, 1, 1))


@pytest.mark.parametrize("name", ["resnet", "mbconv", "convnext"])
def test_the_last_stage_of_a_small_image_still_has_positions(name):
    """32×32 pixels halved five times, as ImageNet's networks do, would leave one."""
    least = smallest(load_family(name)).values | {"resolution": 1.0, "depth_4": 1}
    least |= {"fine_stem": True} if name == "resnet" else {}
    network = build(Architecture(family=name, values=least), shape=(3, 32, 32), n_outputs=4, seed=0).eval()
    sizes = []
    for _, module in modules_of(network, nn.Conv2d):
        module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    network(torch.zeros(1, 3, 32, 32))
    assert min(size for size in sizes if size > 1) == 4
    assert sizes[0] == (16 if name == "convnext" else 32)


def test_a_smaller_resolution_is_part_of_the_model():
    architecture = architecture_of("resnet", special=True)
    assert input_size(architecture, (3, 16, 16)) == (12, 12)
    assert student("resnet", True)(torch.zeros(1, 3, 16, 16)).shape == (1, 4)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "mlp",
            (3, 8, 8),
            "mlp takes samples of the kind vector, got the shape [3, 8, 8]; families for it: convnext, ",
        ),
        ("vit", (2, 3, 8, 8), "vit takes samples of the kind image, got the shape [2, 3, 8, 8]; families for it: none"),
        ("resnet", (3, 3, 8), "resnet takes images of at least 4x4 pixels, got 3x8"),
    ],
)
def test_an_input_that_a_family_does_not_take_is_refused(name, shape, message):
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}"):
        build(smallest(load_family(name)), shape=shape, n_outputs=4, seed=0)


def test_the_longer_axis_of_a_series_is_time():
    architecture = smallest(load_family("conv1d"))
    one, other = (build(architecture, shape=shape, n_outputs=4, seed=0).eval() for shape in ((3, 32), (32, 3)))
    x = torch.randn(2, 3, 32)
    assert torch.equal(one(x), other(x.transpose(1, 2)))


def test_a_student_learns_faster_and_follows_no_features():
    settings = Recovery.model_validate({"steps": 7, "distill": {"logits": 0.5, "features": 3.0}})
    convolutional, transformer = (student_recovery(settings, student(name, False)) for name in ("resnet", "vit"))
    assert (convolutional.learning_rate, transformer.learning_rate) == (1e-2, 2e-3)
    assert (convolutional.steps, convolutional.distill.logits, convolutional.distill.features) == (7, 0.5, 0.0)
