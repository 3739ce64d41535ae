"""Where a student and its teacher have comparable features."""

import pytest
import torch
from tiny_models import TINY_MODELS, Block, Pooled, conv_norm, inputs_of, tiny
from torch import Tensor, nn

from autocompress.graph.surgery import replace_module
from autocompress.layers.low_rank import SVD
from autocompress.passes import PassContext
from autocompress.passes.prune_channels import PruneChannels
from autocompress.recover.feature_places import place_pairs, rows_of, watched


def pairs_of(student: nn.Module, teacher: nn.Module, name: str) -> list[tuple[str, str]]:
    return [(pair.student.name, pair.teacher.name) for pair in place_pairs(student, teacher, inputs_of(name, 1))]


def pruned(name: str, **ratios: float) -> nn.Module:
    model = tiny(name)
    settings = PruneChannels(ratios={layer.replace("_", "."): ratio for layer, ratio in ratios.items()}, align=1)
    settings.apply(model, PassContext(example=inputs_of(name, 1), seed=0))
    return model


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_copy_has_the_places_of_its_original_with_the_same_channels(name):
    pairs = place_pairs(tiny(name), tiny(name), inputs_of(name, 1))
    assert (1 if name in {"lstm", "gru"} else 2) <= len(pairs) <= 5  # recurrent layers are no places
    assert all(pair.student == pair.teacher and pair.same_channels for pair in pairs)


def test_a_stage_ends_where_its_outermost_module_does_and_the_head_is_no_place():
    assert [name for name, _ in pairs_of(tiny("residual"), tiny("residual"), "residual")] == [
        "features.2",
        "features.3",
    ]
    assert [name for name, _ in pairs_of(tiny("mlp"), tiny("mlp"), "mlp")] == ["0", "3"]


@pytest.mark.parametrize(
    ("name", "axis", "width"), [("residual", 1, 16), ("vit", 2, 16), ("conv1d", 1, 16), ("mlp", 1, 16)]
)
def test_channels_are_found_in_every_layout(name, axis, width):
    last = place_pairs(tiny(name), tiny(name), inputs_of(name, 1))[-1].teacher
    assert (last.axis, last.width) == (axis, width)


class Turned(nn.Module):
    """A linear layer on the channels of an image, the axes turned before and after, as ConvNeXt does."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_channels_are_where_the_width_is_when_axes_are_turned():
    model = Pooled(nn.Sequential(conv_norm(3, 8), Turned(8, 20)), 20)
    places = [pair.teacher for pair in place_pairs(model, model, inputs_of("residual", 1))]
    assert [(place.name, place.axis, place.width) for place in places] == [("features.0", 1, 8), ("features.1", 1, 20)]


def test_pruned_and_factorized_layers_keep_their_place():
    student = pruned("residual", features_3_conv2_0=0.5)
    replace_module(student, "features.2.conv2.0", SVD.make(student.features[2].conv2[0], 2))
    pairs = place_pairs(student, tiny("residual"), inputs_of("residual", 1))
    assert [(pair.student.width, pair.teacher.width) for pair in pairs] == [(8, 8), (8, 16)]
    assert [pair.same_channels for pair in pairs] == [True, False]


def test_a_factorized_last_layer_is_still_compared():
    student = tiny("mlp")
    replace_module(student, "3", SVD.make(student[3], 2))
    assert pairs_of(student, tiny("mlp"), "mlp") == [("0", "0"), ("3", "3")]


class Upsampled(Block):
    """A block whose layers work at the positions of ``Block``'s, and whose output has four times as many."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(super().forward(x), scale_factor=2)


def test_a_place_with_other_positions_gives_way_to_the_one_before_it():
    student = tiny("residual")
    student.features[3] = Upsampled(8, 16, 2)
    assert [name for name, _ in pairs_of(student, tiny("residual"), "residual")] == [
        "features.2",
        "features.3.shortcut",
    ]


def test_a_module_that_runs_more_often_than_the_teachers_is_another():
    student = tiny("residual")
    student.features.insert(3, student.features[2])
    teacher = tiny("residual")
    teacher.features.insert(3, Block(8, 8, 1))
    assert [name for name, _ in pairs_of(teacher, teacher, "residual")] == ["features.3", "features.4"]
    assert [name for name, _ in pairs_of(student, teacher, "residual")] == ["features.0", "features.4"]


class Other(nn.Module):
    """Unlike names, half the widths of ``residual``, and one resolution more."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_norm(3, 4), Block(4, 12, 2), Block(12, 20, 2)
        self.out = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.c(self.b(self.a(x))).mean((2, 3)))


def test_another_architecture_is_matched_by_positions_from_the_end():
    pairs = place_pairs(Other(), tiny("residual"), inputs_of("residual", 1))
    assert [(pair.student.name, pair.teacher.name) for pair in pairs] == [("a", "features.2"), ("b", "features.3")]
    assert not any(pair.same_channels for pair in pairs)


def test_tokens_meet_an_image_of_as_many_positions():
    """A ViT of 4×4 patches and a CNN whose last stage is 4×4."""
    pairs = place_pairs(tiny("vit"), Other(), inputs_of("vit", 1))
    assert [(pair.student.name, pair.teacher.name) for pair in pairs] == [("fc2", "c")]
    assert rows_of(torch.zeros(pairs[0].student.shape), pairs[0].student.axis).shape == (16, 16)
    assert rows_of(torch.zeros(pairs[0].teacher.shape), pairs[0].teacher.axis).shape == (16, 20)


def test_without_common_positions_there_is_no_pair():
    other = nn.Sequential(conv_norm(3, 4, 3, 8), nn.Flatten(), nn.Linear(16, 4))
    assert place_pairs(Other(), nn.Sequential(other), inputs_of("residual", 1)) == ()


def test_rows_are_samples_and_positions_in_reading_order():
    image = torch.arange(24.0).reshape(2, 3, 2, 2)
    rows = rows_of(image, 1)
    assert rows.shape == (8, 3)
    assert torch.equal(rows[5], image[1, :, 0, 1])
    assert torch.equal(rows, rows_of(image.flatten(2).transpose(1, 2), 2))
    assert rows_of(image.bfloat16(), 1).dtype == torch.float32


def test_hooks_are_gone_after_watching_also_when_something_breaks():
    model = tiny("mlp")
    with pytest.raises(RuntimeError), watched(model, ["0", "3"]) as seen:  # noqa: PT012
        model(inputs_of("mlp"))
        assert [len(outputs) for outputs in seen.values()] == [1, 1]
        model(torch.zeros(1, 5))
    assert not any(module._forward_hooks for module in model.modules())
