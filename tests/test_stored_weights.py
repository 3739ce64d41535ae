"""Weights in few bits, decoded when the file is loaded."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from stored_samples import operators_after_loading, run, sample
from tiny_exports import exported, quantized

from autocompress.export.compact import compact
from autocompress.export.stored_weights import StoredWeight, dense_of, store, stored_bytes

KINDS = {
    **{f"{bits} bits": {"bits": bits, "scaled": True} for bits in range(2, 9)},
    **{f"int8 of {bits} bits": {"bits": bits} for bits in range(2, 8)},
    **{f"codebook of {bits} bits": {"bits": bits, "table": "float32"} for bits in range(2, 9)},
    **{f"int8 codebook of {bits} bits": {"bits": bits, "table": "int8"} for bits in range(2, 9)},
    "scaled int8 codebook": {"bits": 3, "table": "int8", "scaled": True},
    "codebooks of groups": {"bits": 3, "table": "float32", "groups": 3},
    "int8 codebooks of groups": {"bits": 3, "table": "int8", "groups": 2},
    "codebooks of groups along the last axis": {"bits": 4, "table": "float32", "groups": 2, "channel_axis": -1},
    "float32": {},
    "int8": {"values": "int8"},
    "scaled int8": {"values": "int8", "scaled": True},
    "float16": {"values": "float16"},
    "sparse float32": {"kept_ratio": 0.3},
    "sparse float16": {"kept_ratio": 0.3, "values": "float16"},
    "sparse int8": {"kept_ratio": 0.3, "values": "int8"},
    "sparse scaled int8": {"kept_ratio": 0.3, "values": "int8", "scaled": True},
    "sparse bits": {"kept_ratio": 0.3, "bits": 5},
    "sparse scaled bits": {"kept_ratio": 0.3, "bits": 3, "scaled": True},
    "sparse codebook": {"kept_ratio": 0.3, "bits": 4, "table": "float32"},
    "sparse codebook of 8 bits": {"kept_ratio": 0.3, "bits": 8, "table": "float32"},
    "sparse int8 codebook": {"kept_ratio": 0.3, "bits": 4, "table": "int8"},
    "sparse codebooks of groups": {"kept_ratio": 0.3, "bits": 3, "table": "float32", "groups": 3},
    "very sparse int8": {"kept_ratio": 0.05, "values": "int8"},
    "nothing kept": {"kept_ratio": 0.0},
    "nothing kept of a codebook": {"kept_ratio": 0.0, "bits": 3, "table": "float32"},
    "all kept": {"kept_ratio": 1.1, "bits": 7, "table": "float32"},
}
LAYER = (64, 48, 3, 3)
N = 27_648  # weights in it
SHAPES = [(7,), (5, 9), (3, 4, 5), (6, 5, 3, 3), (8, 4, 2, 2)]


def adding_file(weights: dict[str, np.ndarray], opset: int = 20) -> ModelProto:
    """``output = input + every weight``, flattened one after the other; integers are dequantized first."""
    nodes, made = [], []
    for name, value in weights.items():
        flat = helper.make_node("Reshape", [name, "flat"], [f"{name}_flat"])
        nodes.append(flat)
        if value.dtype == np.int8:
            nodes.append(helper.make_node("Cast", [f"{name}_flat"], [f"{name}_float"], to=TensorProto.FLOAT))
        made.append(nodes[-1].output[0])
    nodes.append(helper.make_node("Concat", made, ["all"], axis=0))
    nodes.append(helper.make_node("Add", ["input", "all"], ["output"]))
    total = sum(value.size for value in weights.values())
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [total])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [total])],
        [
            numpy_helper.from_array(np.array([-1], np.int64), "flat"),
            *(numpy_helper.from_array(value, name) for name, value in weights.items()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def added(weights: dict[str, StoredWeight]) -> tuple[ModelProto, ModelProto]:
    """The dense file and the stored one."""
    dense = adding_file({name: dense_of(weight) for name, weight in weights.items()})
    return dense, store(dense, weights)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_decodes_to_its_values_bit_for_bit_when_the_file_is_loaded(kind):
    weights = {f"w{place}": sample(shape, **KINDS[kind], seed=place) for place, shape in enumerate(SHAPES)}
    dense, stored = added(weights)
    x = np.zeros(sum(np.prod(shape) for shape in SHAPES), np.float32)

    for file in (stored, compact(stored)):
        onnx.checker.check_model(file, full_check=True)
        np.testing.assert_array_equal(run(file, x), np.concatenate([dense_of(w).ravel() for w in weights.values()]))
    assert operators_after_loading(stored) == operators_after_loading(dense) == ["Add"]


@pytest.mark.parametrize("kept_ratio", [0.2, 0.1, 0.02, 0.0005])
@pytest.mark.parametrize("kind", ["float32", "int8", "codebooks of groups"])
def test_few_kept_places_are_found_by_their_distances(kind, kept_ratio):
    """In fewer bytes than a bitmap takes, and as exactly."""
    weight = sample(LAYER, **KINDS[kind], kept_ratio=kept_ratio)
    dense, stored = added({"w": weight})
    x = np.zeros(N, np.float32)

    onnx.checker.check_model(stored, full_check=True)
    np.testing.assert_array_equal(run(stored, x), dense_of(weight).ravel())
    assert operators_after_loading(stored) == operators_after_loading(dense)
    assert stored_bytes(weight) < weight.codes.nbytes + N / 8 + 8 * 4 * 3 + 400


@pytest.mark.parametrize("kind", ["codebook of 7 bits", "sparse codebooks of groups", "float16"])
def test_a_runtime_that_folds_nothing_computes_the_same(kind):
    dense, stored = added({"w": sample((6, 5, 3, 3), **KINDS[kind])})
    x = np.linspace(-1, 1, 270, dtype=np.float32)
    np.testing.assert_array_equal(run(stored, x, optimize=False), run(dense, x))


def test_the_values_are_those_of_the_codes():
    """By hand: two groups of two entries, the second scaled by ten."""
    weight = StoredWeight(
        shape=(2, 3),
        codes=np.array([1, 0, 1, 1], np.uint8),
        bits=1,
        table=np.array([[1, 2], [3, 4]], np.float32),
        kept=np.array([[True, False, True], [False, True, True]]),
        scale=np.array([[1], [10]], np.float32),
    )
    assert dense_of(weight).tolist() == [[2, 0, 1], [0, 40, 40]]


def test_integers_are_centred():
    weight = StoredWeight(shape=(4,), codes=np.arange(4, dtype=np.uint8), bits=2)
    assert (dense_of(weight).tolist(), dense_of(weight).dtype) == ([-2, -1, 0, 1], np.int8)


def kept_count(kind: str) -> int:
    return int(np.count_nonzero(sample(LAYER, **KINDS[kind]).kept))


@pytest.mark.parametrize(
    ("kind", "bound", "overhead"),
    [
        ("int8 of 2 bits", N * 2 / 8 + 4, 280),
        ("int8 of 3 bits", N * 3 / 8 + 8, 490),
        ("int8 of 4 bits", N * 4 / 8 + 16, 280),
        ("int8 of 5 bits", N * 5 / 8 + 32, 490),
        ("int8 of 6 bits", N * 6 / 8 + 64, 495),
        ("int8 of 7 bits", N * 7 / 8 + 128, 710),
        ("codebook of 4 bits", N * 4 / 8 + 16 * 4, 280),
        ("codebook of 8 bits", N + 256 * 4, 145),
        ("codebooks of groups", N * 3 / 8 + 3 * 8 * 4, 785),
        ("float16", N * 2, 60),
        ("sparse float32", N / 8 + kept_count("sparse float32") * 4, 350),
        ("sparse int8", N / 8 + kept_count("sparse int8"), 345),
        ("very sparse int8", N * 0.05 + N * 0.33 / 8, 730),
        ("sparse codebook", N / 8 + kept_count("sparse codebook") / 2 + 16 * 4, 575),
    ],
)
def test_the_bytes_are_those_of_codes_table_bitmap_and_values(kind, bound, overhead):
    weight = sample(LAYER, **KINDS[kind])
    assert bound < stored_bytes(weight) <= bound + overhead


@pytest.mark.parametrize("kind", ["float16", "7 bits", "sparse codebook"])
def test_stored_bytes_tell_what_the_file_saves(kind):
    weights = {f"w{width}": sample((width, 31, 3), **KINDS[kind], seed=width) for width in (20, 50)}
    raw = [StoredWeight(shape=each.shape, codes=dense_of(each).ravel()) for each in weights.values()]

    dense, stored = (len(compact(file).SerializeToString()) for file in added(weights))

    assert dense - stored == pytest.approx(stored_bytes(*raw) - stored_bytes(*weights.values()), abs=40)


def test_what_weights_have_in_common_is_stored_once():
    """Two weights with the same codes and mask under their own scales; a third that is equal to the first."""
    first = sample((16, 9, 3, 3), kept_ratio=0.5, bits=4, table="int8", scaled=True)
    again = StoredWeight(**{**vars(first), "scale": -2 * first.scale})
    weights = {"a": first, "b": again, "c": first}
    dense, stored = added(weights)
    x = np.zeros(3 * first.kept.size, np.float32)

    np.testing.assert_array_equal(run(stored, x), run(dense, x))
    assert operators_after_loading(stored) == ["Add"]
    assert stored_bytes(first, again, first) < stored_bytes(first) + 16 * 4 + 100


def test_float_layers_of_an_exported_file_decode_when_it_is_loaded():
    """What a network's own consumers make of it: blocked convolutions, packed products."""
    proto = exported("residual")
    weights = {
        item.name: StoredWeight(shape=tuple(item.dims), codes=numpy_helper.to_array(item).astype(np.float16).ravel())
        for item in proto.graph.initializer
        if item.data_type == TensorProto.FLOAT and len(item.dims) > 1
    }
    assert weights
    halved = ModelProto()
    halved.CopyFrom(proto)
    for item in halved.graph.initializer:
        if item.name in weights:
            item.CopyFrom(numpy_helper.from_array(dense_of(weights[item.name]), item.name))
    assert operators_after_loading(store(proto, weights)) == operators_after_loading(halved)
    np.testing.assert_array_equal(run_exported(store(proto, weights)), run_exported(halved))


@pytest.mark.parametrize("name", ["residual", "depthwise", "vit"])
def test_int8_layers_stay_int8_kernels(name):
    """Each int8 weight as 4-bit codes of its own 16 most frequent values: the network's graph is the dense one's."""
    proto = quantized(name)
    coarse = ModelProto()
    coarse.CopyFrom(proto)
    weights = {}
    for item in coarse.graph.initializer:
        if item.data_type == TensorProto.INT8 and len(item.dims) > 1:
            codes = (numpy_helper.to_array(item).astype(int) + 128) // 16
            table = np.arange(-120, 128, 16).astype(np.int8)
            weight = StoredWeight(shape=codes.shape, codes=codes.ravel().astype(np.uint8), bits=4, table=table)
            weights[item.name] = weight
            item.CopyFrom(numpy_helper.from_array(dense_of(weight), item.name))
    assert weights
    left = operators_after_loading(store(proto, weights))
    assert left == operators_after_loading(coarse)
    assert {"QLinearConv", "QGemm", "QLinearMatMul"} & set(left)
    np.testing.assert_array_equal(run_exported(store(proto, weights)), run_exported(coarse))


def run_exported(proto: ModelProto) -> np.ndarray:
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return run(proto, np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_the_original_is_left_alone():
    dense = adding_file({"w": dense_of(sample((5, 9), bits=3))})
    before = dense.SerializeToString()
    store(dense, {"w": sample((5, 9), bits=3)})
    assert dense.SerializeToString() == before


def test_fewer_bits_are_fewer_bytes():
    sizes = [stored_bytes(sample(LAYER, bits=bits, table="float32")) for bits in range(1, 9)]
    assert all(fewer < more for fewer, more in pairwise(sizes))


def test_a_weight_that_is_not_in_the_file_is_refused():
    with pytest.raises(ValueError, match=r"^a stored weight must name an initializer of the file, got 'v'$"):
        store(adding_file({"w": np.zeros((2, 3), np.float32)}), {"v": sample((2, 3))})


@pytest.mark.parametrize(
    ("weight", "got"),
    [(sample((3, 2)), r"float32 \[3, 2\]"), (sample((2, 3), bits=3), r"int8 \[2, 3\]")],
)
def test_another_shape_or_type_is_refused(weight, got):
    with pytest.raises(
        ValueError, match=rf"^the stored form of 'w' must be float32 \[2, 3\] as in the file, got {got}$"
    ):
        store(adding_file({"w": np.zeros((2, 3), np.float32)}), {"w": weight})


def test_an_old_opset_is_refused():
    with pytest.raises(ValueError, match=r"^stored weights need opset 18, got 17; export with a later one$"):
        store(adding_file({"w": np.zeros((2, 3), np.float32)}, opset=17), {"w": sample((2, 3))})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codes": np.zeros(5, np.float32)}, r"^codes must be one for each of the 6 kept places, got \[5\]$"),
        ({"codes": np.zeros(6, np.int32), "bits": 4}, "^codes must be uint8, got int32$"),
        ({"codes": np.zeros(6, np.float64)}, "^values must be float16 or float32 or int8, got float64$"),
        ({"codes": np.full(6, 4, np.uint8), "bits": 2}, "^codes into a table of 4 must be smaller, got 4$"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        StoredWeight(shape=(2, 3), **fields)
