"""What is said of how layers are stored is what the file holds."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from tiny_exports import machine, preprocess_of
from tiny_models import inputs_of, tiny
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.layers.constraint import Constraint
from autocompress.passes import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.passes.stored import in_words, stored_as
from autocompress.precision import Precision
from autocompress.recipe import PassStep, Recipe

CASES = {
    "int8 dynamic": {"weights": "int8", "activations": "int8_dynamic"},
    "blocks": {"weights": "int4", "block": 16},
    "static": {"weights": "int8", "activations": "int8"},
    "weights": {"weights": "int3"},
    "floats": {},
}


def composed(name: str, default: dict, layers: dict | None = None) -> Composed:
    step = PassStep(name="quantize", settings={"default": default, "layers": layers or {}})
    return compose(tiny(name), Recipe(passes=(step,)), PassContext(example=inputs_of(name, 1)))


@pytest.mark.parametrize("name", ["residual", "vit blocks"])
@pytest.mark.parametrize("case", CASES)
def test_layers_with_integer_weights_in_words_have_them_in_the_file(name, case):
    made, x = composed(name, CASES[case]), inputs_of(name, 4)
    seen = Seen(inputs=x.numpy(), batch=1)
    written = draft(made.model, made.plan, {}, seen, preprocess=preprocess_of(name), machine=machine())
    stored = {item.name: numpy_helper.to_array(item).dtype for item in written.proto.graph.initializer}
    for weight in written.weights:
        words = stored_as(made)[weight.layer]
        in_integers = stored.get(f"{weight.tensor}_quantized") == np.int8 or " in blocks of " in words
        assert words.startswith("int") is in_integers, weight.layer


def test_layers_with_one_weight_have_the_precision_of_the_first():
    words = stored_as(composed("tied", {}, {"other": {"weights": "int4"}}))
    assert words["one"] == words["other"] == "fp32/fp32"


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ({"weights": "int8", "activations": "int8"}, "3-bit codebook/int8"),
        ({"weights": "int4", "activations": "int8"}, "3-bit codebook/int8"),  # its table is int8
        ({"weights": "int4"}, "3-bit codebook/fp32"),
        ({"weights": "int8", "activations": "int8_dynamic"}, "3-bit codebook/fp32"),  # no convolution computes so
    ],
)
def test_a_codebook_keeps_its_bits_whatever_the_precision(precision, words):
    layer = nn.Conv2d(4, 4, 3)
    indices = torch.zeros_like(layer.weight, dtype=torch.uint8)
    assert in_words(layer, Precision.model_validate(precision), Constraint(indices=indices, bits=3)) == words
