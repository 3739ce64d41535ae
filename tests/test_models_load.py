"""A source becomes a module."""

import pytest
import timm
import torch
from torch import nn

from autocompress.errors import CheckpointError, ModelError
from autocompress.models.config import configured_size, has_fixed_size, normalization_of, weights_digest
from autocompress.models.load import build_model
from autocompress.models.source import ModelSource

SMALL = "test_resnet.r160_in1k"  # timm's own network for tests

OWN = """
from torch import nn

def fixed():
    return nn.Linear(3, 2).half()

def sized(in_shape, n_outputs):
    return nn.Linear(in_shape[0], n_outputs)

def classes(num_classes, in_shape=None):
    return nn.Linear(1, num_classes)

def nothing():
    return "resnet18"
"""


def source(spec=SMALL, in_shape=(3, 32, 32), n_outputs=5, **kwargs):
    return ModelSource(spec=spec, in_shape=in_shape, n_outputs=n_outputs, **kwargs)


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_timm_model_takes_channels_and_classes_from_its_source(channels):
    model = build_model(source(in_shape=(channels, 32, 32)))
    assert model(torch.zeros(2, channels, 32, 32)).shape == (2, 5)
    assert not model.training
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


def test_a_timm_model_of_fixed_size_is_built_for_the_size_of_its_source():
    model = build_model(source("vit_tiny_patch16_224", in_shape=(3, 64, 32)))
    assert model(torch.zeros(1, 3, 64, 32)).shape == (1, 5)
    assert has_fixed_size("vit_tiny_patch16_224")
    assert not has_fixed_size(SMALL)


def test_fresh_weights_come_from_the_seed_and_leave_the_random_state_alone():
    before = torch.random.get_rng_state()
    first, again, other = (weights_digest(build_model(source(), seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_own_factories_get_what_they_name_and_give_float32_in_evaluation_mode(own):
    fixed = build_model(source(f"{own}:fixed"))
    assert (fixed.weight.dtype, fixed.training) == (torch.float32, False)
    assert build_model(source(f"{own}:sized", in_shape=(7,))).weight.shape == (5, 7)
    assert build_model(source(f"{own}:classes")).weight.shape == (5, 1)


def test_a_checkpoint_gives_the_weights(tmp_path):
    trained = build_model(source(), seed=3)
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    loaded = build_model(source(checkpoint=str(tmp_path / "trained.pt")))
    assert weights_digest(loaded) == weights_digest(trained)
    with pytest.raises(CheckpointError, match=r"of another shape: fc\.weight \[5, "):
        build_model(source(n_outputs=6, checkpoint=str(tmp_path / "trained.pt")))


def test_names_that_timm_does_not_have_are_answered_with_near_ones():
    with pytest.raises(
        ModelError, match=r"a timm name or path/file\.py:factory; timm has no 'resnet81'; near: .*resnet1"
    ):
        build_model(source("resnet81"))
    with pytest.raises(ModelError, match=r"a timm tag must exist: .*\(nope\).* It has .*resnet18\.a1_in1k"):
        build_model(source("resnet18.nope"))
    with pytest.raises(ModelError, match=r"timm has no 'resnet81'"):
        has_fixed_size("resnet81")


def test_what_timm_cannot_build_is_reported(monkeypatch):
    def refuse(*args, **kwargs):
        raise TypeError("unexpected keyword")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(
        ModelError, match=r"timm must build test_resnet.* with .*'in_chans': 3.* failed: unexpected keyword"
    ):
        build_model(source())


def test_pretrained_weights_that_cannot_be_fetched_point_to_a_checkpoint(monkeypatch):
    def offline(*args, pretrained, **kwargs):
        assert pretrained
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        ModelError, match=r"could not be fetched or fitted: ConnectionError: no network; .*--checkpoint"
    ):
        build_model(source(pretrained=True))
    with pytest.raises(ModelError, match=r"must have weights .*; botnet50ts_256 has none; use --checkpoint"):
        build_model(source("botnet50ts_256", pretrained=True))


def test_sources_that_contradict_themselves_are_refused(own):
    with pytest.raises(ModelError, match=r"weights come from one place; .* leave one out"):
        build_model(source(pretrained=True, checkpoint="x.pt"))
    with pytest.raises(ModelError, match=r"--pretrained is for timm names; .*own\.py:fixed is own code"):
        build_model(source(f"{own}:fixed", pretrained=True))
    with pytest.raises(ModelError, match=r"own\.py:nothing must return a torch nn\.Module, got str"):
        build_model(source(f"{own}:nothing"))


def test_a_timm_model_knows_its_normalization_and_size():
    model = build_model(source())
    assert normalization_of(model) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalization_of(model, channels=1) is None
    assert configured_size(model) == 160


def test_other_models_have_no_configuration(own):
    assert normalization_of(nn.Linear(1, 1)) is None
    assert configured_size(nn.Linear(1, 1)) is None
    assert not has_fixed_size(f"{own}:fixed")


def test_the_digest_changes_with_any_value_name_type_and_shape():
    def digest(**tensors):
        holder = nn.Module()
        for name, tensor in tensors.items():
            holder.register_buffer(name, tensor)
        return weights_digest(holder)

    one = torch.ones(2, 2)
    changed = [
        digest(a=one),
        digest(b=one),
        digest(a=one * 2),
        digest(a=one.reshape(4)),
        digest(a=one.bfloat16()),
        digest(a=one, b=torch.tensor(3)),
        digest(a=torch.empty(0)),
    ]
    assert len(set(changed)) == len(changed)
    assert digest(a=one, b=one * 2) == digest(b=one * 2, a=one)
    assert digest(a=torch.arange(4.0).reshape(2, 2).T) == digest(a=torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
