"""Weights from files: every shape they come in, and nothing that can run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autocompress.errors import CheckpointError
from autocompress.models.checkpoint import load_weights, read_checkpoint


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state", "model_state_dict", "ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_a_torch_file_is_read_however_it_was_wrapped(tmp_path, key, prefix):
    trained, fresh = network(), network()
    state = {prefix + name: tensor for name, tensor in trained.state_dict().items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert same(trained, fresh)


def test_a_safetensors_file_is_read(tmp_path):
    trained, fresh = network(), network()
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    load_weights(fresh, tmp_path / "w.safetensors")
    assert same(trained, fresh)


def test_a_prefix_that_not_all_names_have_is_kept(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pt")
    assert set(read_checkpoint(tmp_path / "w.pt")) == {"module.a", "b"}


def test_code_in_a_pickle_never_runs(tmp_path):
    touched = tmp_path / "touched"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Bomb(touched)}, tmp_path / "w.pt")
    with pytest.raises(
        CheckpointError, match=r"can run code, so it was not loaded; .* convert it to safetensors: python"
    ):
        read_checkpoint(tmp_path / "w.pt")
    assert not touched.exists()


def test_tied_weights_may_be_stored_once(tmp_path):
    trained, fresh = Tied(), Tied()
    save_file({"second.weight": trained.second.weight.detach()}, tmp_path / "w.safetensors")
    load_weights(fresh, tmp_path / "w.safetensors")
    assert same(trained, fresh)
    assert fresh.first.weight is fresh.second.weight


def test_counters_that_old_files_lack_are_no_mismatch(tmp_path):
    trained, fresh = network(), network()
    state = {name: tensor for name, tensor in trained.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert same(trained, fresh)


def test_what_does_not_fit_is_listed_and_the_model_is_untouched(tmp_path):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items() if not name.startswith("1.")}
    state |= {"0.weight": torch.ones(4, 5), "head": torch.ones(1)}
    torch.save(state, tmp_path / "w.pt")
    message = (
        r"must fit the model; 4 missing: 1\.weight, 1\.bias, 1\.running_mean and 1 more; 1 unexpected: head; "
        r"1 of another shape: 0\.weight \[4, 5\] for \[4, 3\]; check the model's name"
    )
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"epoch": 3, "weights": {"a": torch.ones(1)}},
            r"names with tensors, at the top or under .*holds epoch, weights",
        ),
        ({}, r"it holds nothing; save a state_dict\(\)"),
        ([torch.ones(1)], r"must hold names with tensors, got list"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a zip"])
def test_files_that_are_damaged_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"must be a (safetensors file|state dict)"):
        read_checkpoint(tmp_path / name)


def test_a_file_that_is_not_there_is_answered_with_near_ones(tmp_path):
    (tmp_path / "best.pt").touch()
    with pytest.raises(CheckpointError, match=r"there is no .*bst\.pt; near: best\.pt"):
        read_checkpoint(tmp_path / "bst.pt")
