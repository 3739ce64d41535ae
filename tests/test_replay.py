import copy

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY_MODELS, inputs_of, tiny
from torch import Tensor, nn

from autocompress.graph import replay
from autocompress.graph.layer_table import layer_table
from autocompress.graph.replay import Recording


def batches(name: str) -> list[Tensor]:
    return [inputs_of(name, 4, seed) for seed in (1, 2)]


def ready(model: nn.Module) -> None:
    model.eval()


def halved(model: nn.Module, layer: str) -> nn.Module:
    with torch.no_grad():
        model.get_parameter(f"{layer}.weight").mul_(0.5)
    return model


def outputs(model: nn.Module, inputs: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part) for part in inputs])


@pytest.mark.parametrize("name", TINY_MODELS)
def test_outputs_are_those_of_the_whole_network_wherever_it_is_changed(name):
    recording = Recording(tiny(name), batches(name), ready)
    assert torch.equal(recording.outputs, outputs(tiny(name), batches(name)))
    for facts in layer_table(tiny(name), inputs_of(name, 1)):
        expected = outputs(halved(tiny(name), facts.name), batches(name))
        for _ in range(2):  # recorded, then replayed
            assert torch.equal(recording.outputs_of(halved(tiny(name), facts.name)), expected), facts.name


def test_what_runs_before_the_change_is_computed_once():
    recording = Recording(tiny("deep residual"), batches("deep residual"), ready)
    ran: list[str] = []

    def changed() -> nn.Module:
        model = halved(tiny("deep residual"), "head")
        for name, module in model.named_modules():
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
        return model

    recording.outputs_of(changed())
    assert "features.2.conv1.0" in ran
    ran.clear()
    recording.outputs_of(changed())
    assert set(ran) == {"", "head"}


def test_a_layer_that_is_only_touched_counts_as_changed():
    recording = Recording(tiny("deep residual"), batches("deep residual"), ready)

    def changed() -> nn.Module:
        model = halved(tiny("deep residual"), "head")
        model.get_submodule("features.2.conv1.0").register_forward_hook(lambda _m, _i, output: output * 2)
        return model

    expected = outputs(changed(), batches("deep residual"))
    for _ in range(2):
        recording.outputs_of(halved(tiny("deep residual"), "head"))
    assert torch.equal(recording.outputs_of(changed(), ["features.2.conv1.0"]), expected)


class OwnWeights(nn.Module):
    """Reads a weight of a module without calling it, once that has run."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)) + F.linear(x, self.first.weight)


class InPlace(nn.Module):
    """What the first module changes in place is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.last = nn.ReLU(inplace=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        return self.last(self.act(x)) + x


@pytest.mark.parametrize("kind", [OwnWeights, InPlace])
def test_a_network_that_cannot_be_replayed_is_computed_whole(kind):
    torch.manual_seed(0)
    model, inputs = kind(), [torch.randn(3, 4)]
    recording = Recording(model, inputs, ready)
    changed = kind()
    changed.load_state_dict(model.state_dict())
    halved(changed, "last")
    expected = outputs(changed, inputs)
    for _ in range(2):
        assert torch.equal(recording.outputs_of(copy.deepcopy(changed)), expected)


def test_what_would_take_too_much_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr(replay, "MOST_BYTES", 100)
    recording = Recording(tiny("plain"), batches("plain"), ready)
    for _ in range(2):
        found = recording.outputs_of(halved(tiny("plain"), "5"))
    assert torch.equal(found, outputs(halved(tiny("plain"), "5"), batches("plain")))
    assert not recording._kept


def test_the_network_that_was_recorded_is_left_alone():
    model = tiny("residual")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    recording = Recording(model, batches("residual"), lambda copy: copy.train())
    recording.outputs_of(halved(tiny("residual"), "head"))
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
