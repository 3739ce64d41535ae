"""The table of layers: what became of each, in the file."""

from collections import OrderedDict

import pytest
import torch
from tiny_models import inputs_of, tiny
from torch import nn

from autocompress.delivery.layer_rows import Treated, layer_rows
from autocompress.graph.layer_table import layer_table
from autocompress.passes import PassContext, Student
from autocompress.passes.compose import compose
from autocompress.passes.stored import stored_as
from autocompress.recipe import PassStep, Recipe
from autocompress.result import LayerRow
from autocompress.students.family import load_family, smallest

MODEL = "deep residual"


def rows_after(*steps: dict) -> dict[str, LayerRow]:
    """Layer → its row, after these passes on a network with three blocks."""
    model, x = tiny(MODEL), inputs_of(MODEL, 1)
    recipe = Recipe(passes=tuple(PassStep.model_validate(step) for step in steps))
    composed = compose(model, recipe, PassContext(example=x))
    after = layer_table(composed.model, x)
    treated = Treated(
        layers={layer.name: str(layer) for layer in after},
        params={layer.name: layer.params for layer in after},
        stored=stored_as(composed),
        changed=composed.changed,
        notes=tuple(f"{layer}: {why}" for layer, why in composed.skipped.items()),
    )
    return {row.layer: row for row in layer_rows(layer_table(model, x), treated)}


def test_layers_that_nothing_was_done_to_are_as_before():
    rows = rows_after()
    assert {row.precision for row in rows.values()} == {"fp32/fp32"}
    assert all((row.after, row.params_after, row.note) == (row.before, row.params_before, "") for row in rows.values())


def test_layers_of_a_dropped_block_are_removed_with_it():
    rows = rows_after({"drop_blocks": {"blocks": ["features.3"]}}, {"quantize": {}})
    row = rows["features.3.conv1.0"]
    assert (row.after, row.precision, row.params_after) == ("removed", "–", 0)
    assert row.note == "dropped with features.3"
    assert rows["features.2.conv1.0"].precision == "int8/int8"


def test_layers_of_a_block_with_the_weights_of_another_say_whose():
    rows = rows_after({"share_layers": {"groups": [["features.2", "features.4"]]}})
    assert rows["features.4.conv2.0"].note == "features.4 has the weights of features.2"
    assert rows["features.2.conv2.0"].note == ""


@pytest.mark.parametrize(
    ("precision", "shown"),
    [
        ({"weights": "int8", "activations": "int8"}, "4-bit codebook/int8, 2:4 sparse"),
        ({"weights": "int8"}, "4-bit codebook/fp32, 2:4 sparse"),
    ],
)
def test_codebook_sparsity_and_arithmetic_are_shown_together(precision, shown):
    rows = rows_after(
        {"prune_weights": {"layers": {"features.2.conv1.0": {"pattern": "2:4"}, "head": {"sparsity": 0.75}}}},
        {"share_weights": {"layers": {"features.2.conv1.0": {"bits": 4}}}},
        {"quantize": {"default": precision, "layers": {"head": {"weights": "fp16"}}}},
    )
    assert rows["features.2.conv1.0"].precision == shown
    assert rows["head"].precision == "fp16/fp32, 75% sparse"
    assert rows["features.3.conv1.0"].precision.startswith("int8/")


def test_a_layer_is_shown_with_what_it_gets_of_a_precision_and_why_not_all():
    dynamic = {"weights": "int8", "activations": "int8_dynamic"}
    rows = rows_after({"quantize": {"default": dynamic, "layers": {"features.3": {"weights": "int4", "block": 16}}}})
    assert rows["head"].precision == "int8/int8_dynamic"
    assert rows["features.2.conv1.0"].precision == "int8/fp32"
    assert rows["features.2.conv1.0"].note.startswith("no quantize: int8 with ranges found at each inference is for")
    assert rows["features.3.conv1.0"].precision == "int4/fp32"
    assert rows["features.3.conv1.0"].note.startswith("no quantize: weights in blocks are for linear layers")


def test_a_factorized_layer_shows_its_parts_and_one_precision():
    rows = rows_after(
        {"factorize": {"layers": {"features.2.conv1.0": {"rank": 2}}, "gain": "smaller"}},
        {"quantize": {"default": {"weights": "int4", "activations": "int8"}}},
    )
    row = rows["features.2.conv1.0"]
    assert row.after == "Conv2d 8→2 3×3 then Conv2d 2→8 1×1"
    assert row.precision == "int4/int8"
    assert row.params_after < row.params_before


def test_layers_of_a_student_follow_on_those_that_it_replaces_whatever_their_names():
    model = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3), pool=nn.Flatten(), fc=nn.Linear(4 * 14 * 14, 2)))
    x = torch.zeros(1, 3, 16, 16)
    student = PassStep(name="student", settings=Student.of(smallest(load_family("resnet"))).model_dump())
    composed = compose(model, Recipe(passes=(student, PassStep(name="quantize"))), PassContext(example=x))
    before, after = layer_table(model, x), layer_table(composed.model, x)
    treated = Treated(
        layers={layer.name: str(layer) for layer in after},
        params={layer.name: layer.params for layer in after},
        stored=stored_as(composed),
        changed=composed.changed,
    )
    rows = layer_rows(before, treated)
    assert [(row.layer, row.after, row.params_after) for row in rows[:2]] == [
        ("conv1", "removed", 0),
        ("fc", "removed", 0),
    ]
    assert [row.layer for row in rows[2:]] == [layer.name for layer in after]
    assert {(row.before, row.params_before, row.precision, row.note) for row in rows[2:]} == {
        ("–", 0, "int8/int8", "of the student")
    }
