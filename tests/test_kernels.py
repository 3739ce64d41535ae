"""A kernel of the runtime's graph: what it holds, its name in one line, its form on a disk."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.hardware.kernels.kernel import LEFT_OUT, Kernel, Tensor

NAMES = st.text("abc", min_size=1, max_size=4)
tensors = st.builds(
    Tensor,
    st.sampled_from(["float", "int8", "uint8", "int32", "int64", "uint4"]),
    st.lists(st.integers(0, 300), max_size=4).map(tuple),
    st.booleans(),
)
values = st.one_of(
    st.integers(-9, 9), st.floats(0.1, 0.9), NAMES, st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)
)
kernels = st.builds(
    Kernel,
    NAMES,
    st.tuples(tensors, st.lists(st.one_of(tensors, st.just(LEFT_OUT)), max_size=3)).map(lambda t: (t[0], *t[1])),
    st.lists(tensors, min_size=1, max_size=2).map(tuple),
    st.dictionaries(NAMES, values, max_size=3).map(lambda found: tuple(sorted(found.items()))),
)


@given(kernels)
def test_a_kernel_comes_back_from_json_as_it_was(kernel):
    assert Kernel.from_data(json.loads(json.dumps(kernel.to_data()))) == kernel


@given(kernels, kernels)
def test_signatures_are_equal_where_kernels_are(first, second):
    again = Kernel.from_data(first.to_data())
    assert again.signature == first.signature
    assert (first.signature == second.signature) == (first == second)


@pytest.mark.parametrize(
    "other",
    [
        Kernel("Mul", (Tensor("float", (2, 3)),), (Tensor("float", (2, 3)),)),
        Kernel("microsoft.Add", (Tensor("float", (2, 3)),), (Tensor("float", (2, 3)),)),
        Kernel("Add", (Tensor("float", (23,)),), (Tensor("float", (2, 3)),)),
        Kernel("Add", (Tensor("float", (2, 3), stored=True),), (Tensor("float", (2, 3)),)),
        Kernel("Add", (Tensor("int8", (2, 3)),), (Tensor("float", (2, 3)),)),
        Kernel("Add", (Tensor("float", (2, 3)), LEFT_OUT), (Tensor("float", (2, 3)),)),
        Kernel("Add", (Tensor("float", (2, 3)),), (Tensor("float", (2, 3)),), (("axis", 1),)),
    ],
)
def test_each_difference_shows_in_the_signature(other):
    kernel = Kernel("Add", (Tensor("float", (2, 3)),), (Tensor("float", (2, 3)),))
    assert other.signature != kernel.signature


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [("float", (2, 3), 24), ("uint8", (7,), 7), ("int64", (), 8), ("uint4", (3,), 1.5), ("float", (4, 0), 0)],
)
def test_a_tensor_has_as_many_bytes_as_its_elements(dtype, shape, expected):
    assert Tensor(dtype, shape).bytes == expected


def test_bytes_of_constants_and_of_activations_are_told_apart():
    x, weight = Tensor("float", (1, 8)), Tensor("int8", (8, 4), stored=True)
    kernel = Kernel("MatMul", (x, weight), (Tensor("float", (1, 4)),))
    assert (kernel.stored_bytes, kernel.moved_bytes) == (32, 32 + 16)


def test_attributes_are_read_by_their_type():
    kernel = Kernel("microsoft.Odd", (LEFT_OUT,), (), (("axis", 2), ("mode", "near"), ("perm", (1, 0))))
    assert kernel.operator == "Odd"
    assert kernel.integer("axis", 0) == 2
    assert kernel.integers("perm", ()) == (1, 0)
    assert (kernel.integer("mode", 7), kernel.integer("none", 7)) == (7, 7)
    assert (kernel.integers("axis", (3,)), kernel.integers("none", (3,))) == ((3,), (3,))
    assert kernel.input(5) == LEFT_OUT
