import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from sample_certificate import certificate_of
from tiny_runs import FILE as TINY_RUNS
from tiny_runs import tiny_bench
from torch import nn

import autocompress as ac
from autocompress.delivery import bundle as module
from autocompress.delivery.bundle import bundle_in, load, read_certificate, write_bundle
from autocompress.delivery.certificate import identity_of
from autocompress.errors import InputError, ModelError
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.trial import Product, finalist_of, make_model

RECIPE = Recipe(
    passes=(
        PassStep(name="prune_channels", settings={"ratios": {"stem": 0.5}}),
        PassStep(name="factorize", settings={"layers": {"down": {"rank": 4}}, "gain": "smaller"}),
    ),
    recovery=Recovery(steps=2, batch=8),
)


@lru_cache
def product() -> Product:
    bench = tiny_bench()
    return finalist_of(make_model(bench, RECIPE, threads=1), bench)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A bundle of a network that was pruned and factorized, in floats."""
    return written(tmp_path / "best")


def written(folder: Path) -> Path:
    made = product()
    write_bundle(folder, made.file, made.portable, RECIPE, certificate_of(file=identity_of("model.onnx", made.file)))
    return folder


def test_a_bundle_holds_all_that_belongs_to_its_model(folder):
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx",
        "recipe.yaml",
        "certificate.json",
        "README.md",
        "structure.json",
        "model.safetensors",
    }
    assert (folder / "model.onnx").read_bytes() == product().file
    assert Recipe.from_yaml((folder / "recipe.yaml").read_text()) == RECIPE
    assert read_certificate(folder).file.size_bytes == len(product().file)


def test_nothing_else_is_left_beside_it(folder):
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_the_readme_names_every_limit_with_its_value(folder):
    text = (folder / "README.md").read_text()
    assert "| latency<=5ms | 5 | 2 | met |" in text
    assert "import onnxruntime" in text


def test_a_bundle_replaces_the_one_that_was_there_as_a_whole(folder):
    (folder / "old.txt").write_text("from before")
    written(folder)
    assert not (folder / "old.txt").exists()


def test_a_bundle_that_cannot_be_finished_leaves_the_old_one_as_it_was(folder, monkeypatch):
    before = (folder / "certificate.json").read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "_readme", full)
    with pytest.raises(OSError, match="no space left"):
        written(folder)
    assert (folder / "certificate.json").read_bytes() == before
    assert load(folder) is not None


def test_a_first_bundle_that_cannot_be_finished_is_not_there_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "snippet_for", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "best")
    assert not (tmp_path / "best").exists()


def test_the_loaded_module_gives_the_outputs_of_the_onnx_file(folder):
    network = ac.load(folder)
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = np.random.default_rng(0).standard_normal((5, 1, 12, 12)).astype(np.float32)
    expected = np.concatenate([session.run(None, {"input": one[None]})[0] for one in inputs])
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(inputs)), expected, rtol=1e-4, atol=1e-5)


def test_the_loaded_module_is_pruned_and_can_be_trained(folder):
    network = load(folder)
    assert not network.training
    assert dict(network.named_parameters())["stem.weight"].shape == (8, 1, 3, 3)
    network.train()
    inputs, targets = torch.randn(32, 1, 12, 12), torch.arange(32) % 3
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05


def test_a_runs_folder_means_its_best(folder):
    assert bundle_in(folder) == folder
    assert bundle_in(folder.parent) == folder
    assert load(folder.parent) is not None


def test_loading_needs_neither_the_code_that_defined_the_network_nor_its_folder(folder, tmp_path):
    """In a process that cannot import the network's class, from another working directory."""
    script = f"""
import sys, torch, autocompress
network = autocompress.load({str(folder)!r})
assert "tiny_runs" not in sys.modules
try:
    import tiny_runs
except ImportError:
    print(tuple(network(torch.zeros(3, 1, 12, 12)).shape))
"""
    assert TINY_RUNS.is_file()
    ended = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (ended.stdout.strip(), ended.returncode) == ("(3, 3)", 0), ended.stderr


@pytest.mark.parametrize("missing", ["structure.json", "model.safetensors"])
def test_a_missing_piece_is_named(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(InputError, match=rf"holds structure\.json and model\.safetensors; .*best lacks {missing}"):
        load(folder)


def test_a_folder_that_is_no_result_is_named_with_what_it_lacks(tmp_path):
    with pytest.raises(InputError, match=r"best lacks structure\.json, model\.safetensors"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"holds certificate\.json, and .* does not; give a run's folder or its best"):
        read_certificate(tmp_path)


def test_a_certificate_of_another_kind_is_refused(folder):
    (folder / "certificate.json").write_text('{"met": true}')
    with pytest.raises(InputError, match=r"certificate\.json is not a certificate of this version"):
        read_certificate(folder)


def test_pieces_that_do_not_belong_together_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="must be a pair written by autocompress"):
        load(folder)


def test_what_was_not_done_to_a_model_stands_first_in_its_folder(tmp_path):
    made = product()
    certificate = certificate_of(file=identity_of("model.onnx", made.file))
    write_bundle(tmp_path / "01", made.file, made.portable, RECIPE, certificate, note="not recovered in full")
    readme = (tmp_path / "01" / "README.md").read_text()
    assert readme.index("This model was not recovered in full.") < readme.index("Made by")
