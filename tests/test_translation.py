"""One translation for all networks of a structure."""

import copy
import math
import threading
import types

import pytest
import torch
from tiny_exports import preprocess_of, run
from tiny_models import tiny
from tiny_runs import tiny_task, trained_net
from torch import nn

from autocompress.api import config_of
from autocompress.commands import prepare as preparing
from autocompress.commands.prepare import prepare
from autocompress.events import Silence
from autocompress.export import onnx_file, translation
from autocompress.export.onnx_file import INPUT_NAME, OUTPUT_NAME, to_onnx
from autocompress.export.translation import Translations
from autocompress.task import Layout, Preprocess

VECTOR = Preprocess(layout=Layout.AS_STORED, shape=(3,))


@pytest.fixture
def translated(monkeypatch):
    """The networks that torch's exporter is asked for, by a process that has exported nothing yet."""
    asked = []
    export = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda model, *args, **kw: asked.append(model) or export(model, *args, **kw)
    )
    monkeypatch.setattr(onnx_file, "_TRANSLATIONS", Translations(INPUT_NAME, OUTPUT_NAME))
    return asked


def with_other_weights(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return other


@pytest.mark.parametrize("name", ["residual", "squeeze-excite", "tied", "vit", "lstm"])
def test_the_file_of_other_weights_is_the_one_that_a_new_process_writes(name, translated, monkeypatch):
    other = with_other_weights(tiny(name))
    first = to_onnx(tiny(name), preprocess_of(name), 1)
    second = to_onnx(other, preprocess_of(name), 1)
    assert len(translated) == 1

    monkeypatch.setattr(onnx_file, "_TRANSLATIONS", Translations(INPUT_NAME, OUTPUT_NAME))
    assert to_onnx(other, preprocess_of(name), 1) == second
    assert len(translated) == 2
    assert to_onnx(tiny(name), preprocess_of(name), 1) == first


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.linear, self.factor = nn.Linear(3, 3), factor

    def forward(self, x):
        return self.linear(x) * self.factor


class Negated(Scaled):
    def forward(self, x):
        return -super().forward(x)


Negated.__name__, Negated.__qualname__ = Scaled.__name__, Scaled.__qualname__  # as a file that was edited brings it


def patched(forward):
    model = nn.Linear(3, 3)
    model.forward = types.MethodType(forward, model)
    return model


class Turned(nn.Module):
    """Complex numbers, which the exporter keeps as pairs."""

    def __init__(self, angle):
        super().__init__()
        self.register_buffer("turn", torch.polar(torch.ones(3), torch.full((3,), angle)))

    def forward(self, x):
        return (x * self.turn).real


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Scaled(2.0), Scaled(3.0)),
        (Scaled(2.0), Negated(2.0)),
        (Scaled(torch.ones(3)), Scaled(torch.arange(3.0))),
        (patched(lambda self, x: self.weight @ x[0]), patched(lambda self, x: self.bias - x)),
        (nn.Linear(3, 2), nn.Linear(3, 4)),
        (nn.Linear(3, 2), nn.Linear(3, 2, bias=False)),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Sequential(nn.Linear(3, 3), nn.Tanh())),
    ],
)
def test_what_is_not_of_one_structure_is_translated_anew(one, other, translated):
    to_onnx(one, VECTOR, 1)
    file = to_onnx(other, VECTOR, 1)
    assert len(translated) == 2
    onnx_file.forget_translations()
    assert file == to_onnx(other, VECTOR, 1)


def test_another_batch_is_another_structure(translated):
    for batch in (1, 2):
        assert to_onnx(nn.Linear(3, 2), VECTOR, batch).graph.input[0].type.tensor_type.shape.dim[0].dim_value == batch
    assert len(translated) == 2


def test_a_network_that_holds_what_cannot_be_read_is_exported_each_time(translated):
    model = nn.Linear(3, 2)
    model.lock = threading.Lock()
    model.__deepcopy__ = lambda _: model  # nor copied
    assert to_onnx(model, VECTOR, 1) == to_onnx(model, VECTOR, 1)
    assert len(translated) == 2


def test_the_structures_used_last_are_kept(translated, monkeypatch):
    monkeypatch.setattr(translation, "MOST_KEPT", 2)
    for width in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2, not of 1
        to_onnx(nn.Linear(3, width), VECTOR, 1)
    assert [model.out_features for model in translated] == [1, 2, 3, 2]


def test_complex_weights_are_filled_in_too(translated):
    for angle in (0.0, 1.0):
        (result,) = run(to_onnx(Turned(angle), VECTOR, 1), torch.tensor([[1.0, 2.0, 3.0]]))
        assert result == pytest.approx([math.cos(angle) * x for x in (1, 2, 3)])
    assert len(translated) == 1


def test_nothing_keeps_the_weights_and_code_goes_with_its_graph(translated):
    to_onnx(nn.Linear(3, 2), VECTOR, 1)
    kept = onnx_file._TRANSLATIONS._kept
    ((graph, code),) = kept.values()
    assert {value.const_value for value in graph.graph.initializers.values()} == {None}
    assert nn.Linear in code.values()
    onnx_file.forget_translations()
    assert not kept


def test_a_network_whose_code_was_changed_in_place_is_exported_anew_by_the_next_run(translated, monkeypatch):
    model, task = trained_net(), tiny_task()
    x = torch.rand(1, *task.preprocess.shape)
    before = run(to_onnx(model, task.preprocess, 1), x)
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x: -forward(self, x))  # as a notebook that reloads does
    monkeypatch.setattr(preparing, "with_measured_activations", lambda machine, _: machine)
    prepare(config_of(model, task, "size<=50%", {}), Silence(), model=model, task=task)
    assert run(to_onnx(model, task.preprocess, 1), x) == pytest.approx(-before)
    assert len(translated) == 2
