"""From a PyTorch model to one ONNX file: static batch, inference only, nothing in it but the network."""

import ast
import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from onnx import ModelProto, NodeProto
from torch import nn

from autocompress.errors import ModelError
from autocompress.export.onnx_graph import WEIGHTED_OPS
from autocompress.export.translation import Translations
from autocompress.garbage import no_collection
from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.surgery import example_input
from autocompress.task import Preprocess

INPUT_NAME, OUTPUT_NAME = "input", "output"
_SCOPES = "pkg.torch.onnx.name_scopes"
_TALKERS = ("torch.onnx", "onnxscript", "onnx_ir")
_TRANSLATIONS = Translations(INPUT_NAME, OUTPUT_NAME)  # of this process


def to_onnx(model: nn.Module, preprocess: Preprocess, batch: int) -> ModelProto:
    """The network as ONNX with BatchNorm folded; nodes with weights carry their layer's name (see ``layer_of``).

    Raises:
        ModelError: the exporter cannot translate the model; with its reason.
    """
    frozen = _untied(copy.deepcopy(model).eval().requires_grad_(False))
    example = example_input(preprocess.shape, preprocess.dtype, batch)
    try:
        with _quiet(), no_collection():
            proto = _TRANSLATIONS(frozen, example)
    except Exception as error:
        raise ModelError(f"the model must be exportable to ONNX: {_reason(error)}") from error
    _name_nodes(proto)
    _strip(proto)
    return proto


def forget_translations() -> None:
    """Export anew what was exported before: its code may have been changed in place."""
    _TRANSLATIONS.forget()


def _untied(model: nn.Module) -> nn.Module:
    """The model with a weight for each layer, in place: the exporter folds no BatchNorm into weights that are shared.

    What is equal after that is one constant again.
    """
    seen: set[int] = set()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, WEIGHTED) or not isinstance(weight, nn.Parameter):
            continue
        if id(weight) in seen:
            module.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        seen.add(id(weight))
    return model


def layer_of(node: NodeProto) -> str:
    """The layer that a named node belongs to; what the node does where it belongs to none."""
    return str(node.name).partition("#")[0]


def _name_nodes(proto: ModelProto) -> None:
    """Call each convolution and matrix product by the layer whose weight it uses, the others by what they do."""
    sources = _weight_sources(proto)
    constants = {item.name for item in proto.graph.initializer}
    taken: set[str] = set()
    for place, node in enumerate(proto.graph.node):
        layer = ""
        if node.op_type in WEIGHTED_OPS:
            layer = next((sources[i] for i in node.input if i in sources), "")
            if not layer and not constants.isdisjoint(node.input):
                layer = _module_of(node)
        name = layer or f"{node.op_type.lower()}_{place}"
        node.name = name if name not in taken else f"{name}#{place}"
        taken.add(node.name)


def _module_of(node: NodeProto) -> str:
    """The module that a node was traced in, by the exporter's notes: for weights that were folded to new constants."""
    notes = next((item.value for item in node.metadata_props if item.key == _SCOPES), "[]")
    modules = ast.literal_eval(notes)[:-1]  # from the whole model down to the module; last comes the node itself
    return str(modules[-1]) if modules else ""


def _weight_sources(proto: ModelProto) -> dict[str, str]:
    """Tensor name → layer name, for weights and what is made from weights by moving numbers about."""
    sources = {
        item.name: item.name.removesuffix(".weight")
        for item in proto.graph.initializer
        if item.name.endswith(".weight")
    }
    for node in proto.graph.node:
        if node.op_type in {"Transpose", "Reshape", "Identity", "Cast"} and node.input[0] in sources:
            sources[node.output[0]] = sources[node.input[0]]
    return sources


def _strip(proto: ModelProto) -> None:
    """Take out what no runtime reads: the exporter's metadata, doc strings and inner shape notes."""
    proto.producer_name, proto.producer_version, proto.doc_string = "autocompress", "", ""
    del proto.metadata_props[:]
    del proto.functions[:]
    graph = proto.graph
    graph.name, graph.doc_string = "network", ""
    del graph.value_info[:]
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on its own internals from the user."""
    levels = {name: logging.getLogger(name).level for name in _TALKERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__
