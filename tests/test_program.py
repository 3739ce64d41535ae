"""A network as data, and back."""

import json
import re
from functools import cache

import pytest
import torch
from tiny_models import IMAGE, TINY_MODELS, inputs_of, shape_of, tiny
from torch import nn

from autocompress.errors import ModelError
from autocompress.graph.program import Portable, from_portable, to_portable


@cache
def stored(name: str) -> Portable:
    return to_portable(tiny(name), shape_of(name))


def there_and_back(name: str) -> tuple[nn.Module, nn.Module]:
    return tiny(name), from_portable(stored(name))


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_outputs_are_equal_at_any_batch_size(name, batch):
    model, back = there_and_back(name)
    x = inputs_of(name, batch)
    torch.testing.assert_close(back(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_in_train_mode_outputs_gradients_and_statistics_are_equal(name):
    model, back = there_and_back(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    results = []
    for network in (model, back):
        network.train()
        torch.manual_seed(3)
        output = network(inputs_of(name, 4))
        output.square().sum().backward()
        results.append((output, {key: p.grad for key, p in network.named_parameters()}, dict(network.named_buffers())))
    (output, gradients, buffers), (again, their_gradients, their_buffers) = results
    torch.testing.assert_close(again, output, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == their_gradients.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(their_gradients[key], gradient, rtol=1e-3, atol=1e-4)
    for key in [key for key in buffers if not key.endswith("num_batches_tracked")]:
        torch.testing.assert_close(their_buffers[key], buffers[key], rtol=1e-4, atol=1e-5)


def test_batchnorm_moves_in_train_mode_and_rests_in_eval_mode():
    _, back = there_and_back("residual")
    before = back.get_buffer("features.0.1.running_mean").clone()
    back.eval()(inputs_of("residual"))
    assert torch.equal(back.get_buffer("features.0.1.running_mean"), before)
    back.train()(inputs_of("residual"))
    assert not torch.equal(back.get_buffer("features.0.1.running_mean"), before)
    assert not back.eval().training


def test_dropout_follows_the_mode():
    back = from_portable(to_portable(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), (8,)))
    x = torch.randn(4, 8)
    assert torch.equal(back(x), back(x))
    back.train()
    assert not torch.equal(back(x), back(x))
    back.eval()
    assert torch.equal(back(x), back(x))


@pytest.mark.parametrize(
    "norm",
    [
        nn.InstanceNorm2d(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.GroupNorm(1, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("train", [False, True])
def test_norms_with_and_without_running_statistics_do_as_before(norm, train):
    model = nn.Sequential(norm, nn.Conv2d(3, 2, 1))
    back = from_portable(to_portable(model, IMAGE))
    x = torch.randn(3, *IMAGE)
    torch.testing.assert_close(back.train(train)(x), model.train(train)(x))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_parameters_keep_their_names_values_and_sharing(name):
    model, back = there_and_back(name)
    ours, theirs = dict(model.named_parameters()), dict(back.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert all(p.requires_grad for p in theirs.values())


def test_a_network_that_fixes_its_batch_is_kept_for_one_sample():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(1, 8)

    assert from_portable(to_portable(Fixed(), (2, 4)))(torch.ones(1, 2, 4)).shape == (1, 8)


def test_token_models_are_kept():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    tokens = torch.tensor([[1, 2, 3, 0, 8]])
    assert torch.equal(from_portable(to_portable(model, (5,), "int64"))(tokens), model(tokens))


def test_names_that_are_no_identifiers_are_kept():
    model = nn.Sequential(nn.ModuleDict({"a-b: c/d": nn.Linear(4, 4)})["a-b: c/d"])
    model.add_module("a-b: c/d", nn.Linear(4, 3))
    back = from_portable(to_portable(model, (4,)))
    assert set(dict(back.named_parameters())) == {"0.weight", "0.bias", "a-b: c/d.weight", "a-b: c/d.bias"}


def test_a_network_that_cannot_be_traced_is_refused():
    class Moody(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"(?s)^the model must be traceable by torch\.export: .*data-dependent"):
        to_portable(Moody(), (3,))


def crafted(change) -> Portable:
    """A stored network whose structure somebody has changed."""
    portable = to_portable(nn.Sequential(nn.Linear(3, 2)), (3,))
    structure = json.loads(portable.structure)
    change(structure)
    return Portable(structure=json.dumps(structure), weights=portable.weights)


def node(structure, op: str) -> dict:
    return next(item for item in structure["nodes"] if item["op"] == op)


def name_the_input(structure, name: str) -> None:
    node(structure, "input")["name"] = name
    node(structure, "call")["args"][0] = {"node": name}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "a stored network holds ATen operators only, got 'os.system'"),
        ("operator.call", "a stored network holds ATen operators only, got 'operator.call'"),
        ("operator.setitem", "a stored network holds ATen operators only, got 'operator.setitem'"),
        ("aten.__init__.__globals__", "a stored network holds ATen operators only, got 'aten.__init__.__globals__'"),
        ("aten.__class__.mro", "a stored network holds ATen operators only, got 'aten.__class__.mro'"),
        ("aten.nonsense.default", "a stored network holds ATen operators only, got 'aten.nonsense.default'"),
        ("prims.add.default", "a stored network holds ATen operators only, got 'prims.add.default'"),
        ("aten.from_file.default", "a stored network holds no operators on files, got 'aten.from_file.default'"),
        ("aten.save.default", "a stored network holds no operators on files, got 'aten.save.default'"),
    ],
)
def test_another_operator_is_refused(target, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        from_portable(crafted(lambda structure: node(structure, "call").update(target=target)))


CODE = "x=__import__('pathlib').Path('pwned').touch()"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: name_the_input(s, CODE), "nodes and arguments of a stored network have plain names, got"),
        (
            lambda s: name_the_input(s, "lambda"),
            "nodes and arguments of a stored network have plain names, got 'lambda'",
        ),
        (
            lambda s: node(s, "call").update(kwargs={CODE: 1}),
            "nodes and arguments of a stored network have plain names",
        ),
        (
            lambda s: node(s, "tensor").update(target='0") or ' + CODE + '("'),
            "tensors of a stored network have names without quotes or control characters, got",
        ),
        (
            lambda s: node(s, "tensor").update(target="0\n" + CODE),
            "tensors of a stored network have names without quotes or control characters, got",
        ),
        (lambda s: node(s, "call")["args"].append({"dtype": "load"}), "a stored network has no 'dtype' called 'load'"),
        (lambda s: node(s, "call")["args"].append({"class": "load"}), "a stored network has no 'class' called 'load'"),
    ],
)
def test_names_cannot_smuggle_code_in(change, message, tmp_path, monkeypatch):
    """torch.fx writes these names into the source of a function, which it then compiles."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        from_portable(crafted(change))
    assert not list(tmp_path.iterdir())


def test_text_in_arguments_stays_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    portable = crafted(lambda s: node(s, "call")["args"].append(f"' + {CODE} + '"))
    with pytest.raises(RuntimeError, match="expected at most 3"):
        from_portable(portable)(torch.ones(1, 3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("nodes"),
        lambda s: s["nodes"].reverse(),
        lambda s: s["nodes"].insert(0, 5),
        lambda s: node(s, "tensor").update(target="absent.weight"),
        lambda s: node(s, "call").pop("args"),
        lambda s: node(s, "call")["args"].append({}),
        lambda s: node(s, "call")["args"].append({"node": "absent"}),
        lambda s: node(s, "call")["args"].append({"float": "many"}),
        lambda s: node(s, "call").update(target=None),
    ],
)
def test_a_malformed_structure_is_refused(change):
    with pytest.raises(
        ModelError, match=r"^structure\.json and model\.safetensors must be a pair written by autocompress: "
    ):
        from_portable(crafted(change))


@pytest.mark.parametrize(("structure", "weights"), [("{", b""), ("[]", b""), ("{}", b"\x08pickle"), ("null", b"")])
def test_what_is_no_structure_is_refused(structure, weights):
    with pytest.raises(
        ModelError, match=r"^structure\.json and model\.safetensors must be a pair written by autocompress: "
    ):
        from_portable(Portable(structure=structure, weights=weights))


def test_the_structure_is_json_and_the_weights_are_safetensors():
    portable = to_portable(tiny("mlp"), (12,))
    assert json.loads(portable.structure)["schema"] == 1
    assert b"PK" not in portable.weights[:16]  # a zip, which pickles come in
    length = int.from_bytes(portable.weights[:8], "little")
    assert "0.weight" in json.loads(portable.weights[8 : 8 + length])
