"""From a PyTorch model to one ONNX file."""

import gc
import logging
from unittest import mock

import onnx
import pytest
import torch
from onnx import TensorProto
from tiny_exports import exported, preprocess_of, run
from tiny_models import TINY_MODELS, inputs_of, tiny
from torch import nn
from torch.onnx._internal.exporter import _decomp
from torch.onnx._internal.exporter._registration import ONNXRegistry

from autocompress.errors import ModelError
from autocompress.export import operator_library
from autocompress.export.onnx_file import layer_of, to_onnx
from autocompress.export.operator_library import shared_library
from autocompress.layers.low_rank import SVD
from autocompress.task import Layout, Preprocess

WEIGHTED_OPS = {"Conv", "Gemm", "MatMul"}


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_runtime_computes_what_the_model_computes(name):
    x = inputs_of(name, 3)
    torch.testing.assert_close(torch.from_numpy(run(exported(name), x)), tiny(name)(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_nothing_is_in_the_file_but_the_network(name):
    proto = exported(name)
    onnx.checker.check_model(proto)
    assert (proto.producer_name, proto.producer_version, proto.doc_string, proto.domain) == ("autocompress", "", "", "")
    assert not proto.metadata_props
    assert not proto.functions
    assert not proto.graph.value_info
    for item in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        assert not item.metadata_props
        assert not item.doc_string
    used = {i for node in proto.graph.node for i in node.input}
    assert {item.name for item in proto.graph.initializer} <= used


@pytest.mark.parametrize("name", TINY_MODELS)
def test_batchnorm_is_folded(name):
    assert "BatchNormalization" not in {node.op_type for node in exported(name).graph.node}


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_layer_lends_its_name_to_its_node(name):
    proto = exported(name)
    named = {layer_of(node) for node in proto.graph.node if node.op_type in WEIGHTED_OPS}
    layers = {
        key for key, module in tiny(name).named_modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    }
    if name == "tied":
        layers -= {"other"}  # its weight is the first one's
    assert layers <= named
    assert all(entry in layers or entry.startswith("matmul_") for entry in named)  # attention has no weights


def test_node_names_are_unique():
    for name in ("vit", "tied"):
        names = [node.name for node in exported(name).graph.node]
        assert len(set(names)) == len(names)


def test_the_thin_layers_of_a_factorized_one_carry_its_name():
    model = tiny("vit")
    model.fc1 = SVD.make(model.fc1, 4)
    names = {node.name for node in to_onnx(model, preprocess_of("vit"), 1).graph.node}
    assert {"fc1.reduce", "fc1.expand", "fc2"} <= names


def test_one_input_of_a_fixed_batch_and_one_output():
    proto = exported("residual", 4)
    (entry,), (result,) = proto.graph.input, proto.graph.output
    assert (entry.name, result.name) == ("input", "output")
    assert [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in (entry, result)] == [
        [4, 3, 16, 16],
        [4, 4],
    ]
    x = inputs_of("residual", 8)
    torch.testing.assert_close(torch.from_numpy(run(proto, x)), tiny("residual")(x).detach(), rtol=1e-4, atol=1e-5)


def test_token_ids_go_in_as_integers():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    proto = to_onnx(model, Preprocess(layout=Layout.AS_STORED, shape=(5,), dtype="int64"), 1)
    assert proto.graph.input[0].type.tensor_type.elem_type == TensorProto.INT64
    tokens = torch.tensor([[1, 2, 3, 0, 8]])
    torch.testing.assert_close(torch.from_numpy(run(proto, tokens)), model(tokens).detach())


def test_the_model_is_left_alone_and_exported_as_it_infers():
    model = tiny("residual")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    proto = to_onnx(model, preprocess_of("residual"), 1)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    x = inputs_of("residual", 1)
    torch.testing.assert_close(torch.from_numpy(run(proto, x)), model.eval()(x).detach(), rtol=1e-4, atol=1e-5)


class Moody(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_is_refused_with_the_reason(caplog, capfd):
    with pytest.raises(ModelError, match=r"^the model must be exportable to ONNX: .*data-dependent"):
        to_onnx(Moody(), Preprocess(layout=Layout.AS_STORED, shape=(3,)), 1)
    assert logging.getLogger("torch.onnx").level == logging.NOTSET
    assert isinstance(vars(ONNXRegistry)["from_torchlib"], classmethod)  # as torch has it
    assert gc.isenabled()
    assert capfd.readouterr().out == ""


def test_the_library_of_operators_is_read_once():
    """``from_torchlib`` hands out a new library at every call; inside the block, the same translations to all."""
    with shared_library():
        one, other = (ONNXRegistry.from_torchlib(opset_version=18) for _ in range(2))
        older = ONNXRegistry.from_torchlib(opset_version=17)
    assert one.functions is other.functions
    assert (one.opset_version, older.opset_version) == (18, 17)


def test_what_torch_deletes_from_a_shared_table_is_there_at_the_next_export():
    registered = set(_decomp.get_onnx_implemented_overloads(ONNXRegistry.from_torchlib()))
    alone = _decomp.create_onnx_friendly_decomposition_table(registered)
    with shared_library():
        _decomp.create_onnx_friendly_decomposition_table(registered).clear()
        again = _decomp.create_onnx_friendly_decomposition_table(set(registered))
        fewer = _decomp.create_onnx_friendly_decomposition_table(set())
    assert again.keys() == alone.keys() != fewer.keys()


@pytest.mark.parametrize("name", ["residual", "vit blocks", "conv1d"])
def test_a_file_is_the_same_with_and_without_a_shared_library(name):
    with mock.patch.object(operator_library, "_SLOW", ()):
        alone = to_onnx(tiny(name), preprocess_of(name), 1)
    assert to_onnx(tiny(name), preprocess_of(name), 1) == alone


@pytest.mark.parametrize("moved", ["torch.onnx.elsewhere", "torch.elsewhere.Library", "torch.onnx"])
def test_a_torch_that_keeps_its_library_elsewhere_is_left_alone(moved):
    before = vars(ONNXRegistry)["from_torchlib"]
    with mock.patch.object(operator_library, "_SLOW", ((moved, "from_torchlib"),)), shared_library():
        assert vars(ONNXRegistry)["from_torchlib"] is before
