"""One network to measure, from a seed: the same seed gives the same network."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, numpy_helper

from autocompress.export.calibrate import Seen
from autocompress.export.draft_export import draft_onnx
from autocompress.export.onnx_file import layer_of
from autocompress.export.onnx_graph import WEIGHTED_OPS
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.hardware.drawn.kinds import FLOAT_ONLY, KINDS
from autocompress.hardware.drawn.net import repeated
from autocompress.hardware.drawn.space import NetworkSpace, profile_space
from autocompress.hardware.drawn.students import student_net
from autocompress.hardware.drawn.style import Style
from autocompress.models.load import build_model
from autocompress.models.source import ModelSource
from autocompress.precision import FP32, INT8, FilePlan
from autocompress.target import Machine
from autocompress.task import Layout, Preprocess

FLOAT, INT = "fp32", "int8"
RANDOM, STUDENT, TIMM = "drawn", "student", "timm"  # how names of observations begin; a seed follows
LARGE = 1024  # elements of a weight
ALL_INT8 = FilePlan(default=INT8)
FIRST_ALONE = 0.4  # of the partly quantized ones: what pools between a float stem and int8 takes a path of its own


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A network as a file; ``family`` is its kind or timm's family."""

    name: str
    family: str
    precision: str
    proto: bytes


def draw(seed: int, machine: Machine, space: NetworkSpace | None = None) -> Drawn:
    """A random network.

    Args:
        seed: of kind, shapes and weights.
        machine: decides how int8 is written.
        space: None is the shipped one.
    """
    space = space or profile_space()
    rng = np.random.default_rng(seed)
    int8 = bool(rng.random() < space.int8)
    style = Style.drawn(rng, int8=int8)
    shares = np.array(list(space.kinds.values()))
    kind = str(rng.choice(list(space.kinds), p=shares / shares.sum()))
    net, last = KINDS[kind](style, rng)
    proto, precision = net.model(last), FLOAT
    if int8 and kind not in FLOAT_ONLY:
        plan = _partly_int8(proto, rng) if rng.random() < space.mixed else ALL_INT8
        proto, precision = _in_int8(proto, net.input.shape, rng, machine, plan), INT
    return Drawn(name=f"{RANDOM}-{seed}", family=kind, precision=precision, proto=proto.SerializeToString())


def draw_timm(seed: int, machine: Machine, space: NetworkSpace | None = None) -> tuple[Drawn, Drawn]:
    """A model of timm with fresh weights, in fp32 and in int8; takes some seconds.

    Successive seeds go through the models, then through them again with other sizes.

    Args:
        seed: which model and size.
        machine: decides how int8 is written.
        space: None is the shipped one.

    Raises:
        ModelError: timm cannot build the model, or PyTorch cannot export it.
    """
    timm = (space or profile_space()).timm
    rng = np.random.default_rng(seed)
    names = np.random.default_rng(0).permutation(sorted(timm.models)).tolist()
    name = names[seed % len(names)]
    about = timm.models[name]
    size = int(rng.choice(about.sizes))
    shape = (3, size, size)
    model = build_model(ModelSource(spec=name, in_shape=shape, n_outputs=timm.classes), seed=seed)
    proto = draft_onnx(model, Preprocess(layout=Layout.IMAGE, shape=shape), 1)
    return _in_both(proto, shape, rng, machine, name=f"{TIMM}-{seed}-{name}-{size}", family=about.family)


def draw_student(seed: int, machine: Machine, space: NetworkSpace | None = None) -> tuple[Drawn, Drawn]:
    """A network of a student family with fresh weights, in fp32 and in int8; takes a second.

    Args:
        seed: of family, sizes and weights.
        machine: decides how int8 is written.
        space: None is the shipped one.

    Raises:
        ModelError: PyTorch cannot export it.
    """
    rng = np.random.default_rng(seed)
    students = (space or profile_space()).students.families
    family = str(rng.choice(list(students), p=np.array(list(students.values())) / sum(students.values())))
    proto, shape = student_net(family, rng)
    return _in_both(proto, shape, rng, machine, name=f"{STUDENT}-{seed}-{family}", family=family)


def _in_both(
    proto: ModelProto, shape: tuple[int, ...], rng: np.random.Generator, machine: Machine, *, name: str, family: str
) -> tuple[Drawn, Drawn]:
    """In fp32 and in int8."""
    _repeat_numbers(proto)
    fp32, int8 = (
        Drawn(name=f"{name}-{precision}", family=family, precision=precision, proto=each.SerializeToString())
        for precision, each in ((FLOAT, proto), (INT, _in_int8(proto, (1, *shape), rng, machine)))
    )
    return fp32, int8


def _repeat_numbers(proto: ModelProto) -> None:
    """Fill large weights, in place, as ``Net.weight`` does: files compress well then."""
    for place, item in enumerate(proto.graph.initializer):
        array = numpy_helper.to_array(item)
        if array.dtype == np.float32 and array.size > LARGE:
            item.CopyFrom(numpy_helper.from_array(repeated(array.shape, place, float(array.std())), item.name))


def _partly_int8(proto: ModelProto, rng: np.random.Generator) -> FilePlan:
    """One to three stretches of layers stay float, as a search leaves some, or the first alone; never all of them."""
    layers = [layer_of(node) for node in proto.graph.node if node.op_type in WEIGHTED_OPS]
    ends = np.sort(rng.integers(0, len(layers) + 1, 2 * int(rng.integers(1, 4)))).reshape(-1, 2)
    ends = np.array([[0, 1]]) if rng.random() < FIRST_ALONE else ends
    floats = {layer: FP32 for start, end in ends for layer in layers[start:end]}
    return ALL_INT8 if len(floats) == len(layers) else FilePlan(default=INT8, layers=floats)


def _in_int8(
    proto: ModelProto,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    machine: Machine,
    plan: FilePlan = ALL_INT8,
) -> ModelProto:
    seen = Seen(inputs=rng.standard_normal(shape).astype(np.float32), batch=shape[0])
    return quantize_onnx(proto, plan, seen, machine)
