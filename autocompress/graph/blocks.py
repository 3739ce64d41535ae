"""Residual blocks: modules that can be taken out whole, because the input of each also reaches its output unchanged.

They are found in the graph that ``torch.export`` gives, which says in which module each operator runs, and not by
class names. Each is then tried on a copy: without it the network must still run and keep the shape of its output.
"""

import copy
import warnings
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from autocompress.errors import ModelError
from autocompress.facts import Facts
from autocompress.graph.surgery import replace_module

# Where the input may come in as the first or as the second operand, and where only as the first.
_ADDITIONS = {"add": 2, "sub": 1, "addcmul": 1}
# What works element by element or only changes the shape, and is not tagged pointwise by ATen.
_STEPS = {
    *("alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "hardswish", "prelu", "relu6", "to"),
    *("_unsafe_view", "flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view"),
}


class Block(Facts):
    """A residual block. ``params`` leave with it; ``reason`` says why it must stay, and is empty for the others."""

    name: str
    params: int
    reason: str = ""


def residual_blocks(model: nn.Module, example: Tensor) -> tuple[Block, ...]:
    """The smallest residual blocks of ``model`` in definition order; the model is left alone.

    A residual block has one tensor in, one of the same shape out, and a way from the one to the other through at least
    one addition, and otherwise only through steps that work element by element.

    Cost: one copy of the model, one ``torch.export`` (half a second for a ResNet-18), two forward passes per block.

    Raises:
        ModelError: ``torch.export`` cannot trace the model.
    """
    tried = copy.deepcopy(model).eval()
    calls = _calls_of(_exported(tried, example))
    residual = {name for name in calls if all(map(_is_residual, calls[name]))}
    smallest = [
        name
        for name, module in model.named_modules()
        if name in residual
        and any(True for _ in module.parameters())
        and not any(other.startswith(f"{name}.") for other in residual)
    ]
    return tuple(
        Block(name=name, params=_own_params(model, name), reason=why_it_stays(tried, name, example))
        for name in smallest
    )


@torch.no_grad()
def why_it_stays(model: nn.Module, name: str, example: Tensor) -> str:
    """Why ``model`` needs its block ``name``; empty when it runs without. Put in eval mode, else left as it was."""
    if not _own_params(model, name):
        return "its weights are also used outside it"
    expected = model.eval()(example).shape
    block = model.get_submodule(name)
    replace_module(model, name, nn.Identity())
    try:
        shape = model(example).shape
    except Exception as error:  # whatever the network raises is the reason
        first_line = (str(error).strip().splitlines() or [""])[0][:160]
        return f"the network does not run without it: {type(error).__name__}: {first_line}"
    finally:
        replace_module(model, name, block)
    return "" if shape == expected else f"without it the output is {list(shape)} instead of {list(expected)}"


def _own_params(model: nn.Module, name: str) -> int:
    """Parameters that nothing outside the module ``name`` uses."""
    named = list(model.named_parameters(remove_duplicate=False))
    outside = {id(parameter) for place, parameter in named if not place.startswith(f"{name}.")}
    return sum(p.numel() for p in model.get_submodule(name).parameters() if id(p) not in outside)


def _exported(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, (example,), strict=False)
    except Exception as error:
        raise ModelError(f"the model must be traceable by torch.export: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of a module: its operators on the network's input, and the tensors that come in and go out."""

    nodes: set[fx.Node]
    inputs: set[fx.Node]
    outputs: set[fx.Node]


def _calls_of(program: torch.export.ExportedProgram) -> dict[str, list[_Call]]:
    """Module → its calls. What is computed from weights and constants alone is left out."""
    live: set[fx.Node] = set()
    members: dict[str, dict[str, set[fx.Node]]] = defaultdict(lambda: defaultdict(set))
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs:
            live.add(node)
        if node.op != "call_function" or live.isdisjoint(node.all_input_nodes):
            continue
        live.add(node)
        for call, (name, _) in node.meta.get("nn_module_stack", {}).items():
            members[name][call].add(node)
    return {
        name: [
            _Call(
                nodes=nodes,
                inputs={source for node in nodes for source in node.all_input_nodes if source in live} - nodes,
                outputs={node for node in nodes if not nodes.issuperset(node.users)},
            )
            for nodes in by_call.values()
        ]
        for name, by_call in members.items()
        if name
    }


def _is_residual(call: _Call) -> bool:
    """Whether the one input reaches the one output, of the same shape, through an addition and single steps."""
    if len(call.inputs) != 1 or len(call.outputs) != 1:
        return False
    (source,), (end,) = call.inputs, call.outputs
    before, after = source.meta.get("val"), end.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before.shape != after.shape:
        return False
    ways = [(end, False)]
    seen = set(ways)
    while ways:
        node, added = ways.pop()
        if node is source:
            if added:
                return True
            continue
        further = [(operand, added or adds) for operand, adds in _operands(node, call)]
        ways += [way for way in further if way not in seen]
        seen.update(further)
    return False


def _operands(node: fx.Node, call: _Call) -> list[tuple[fx.Node, bool]]:
    """From where a value passes through ``node`` as it is, element by element, and whether another is added to it."""
    work = [source for source in node.all_input_nodes if source in call.nodes or source in call.inputs]
    kind = _kind(node)
    if len(work) == 1:
        return [(work[0], False)] if kind in _STEPS or _is_pointwise(node) else []
    added = node.args[: _ADDITIONS.get(kind, 0)]
    return [(operand, True) for operand in added if isinstance(operand, fx.Node) and operand in work]


def _kind(node: fx.Node) -> str:
    """``add`` for ``aten.add_.Tensor``."""
    return str(node.target.overloadpacket.__name__).rstrip("_") if isinstance(node.target, OpOverload) else ""


def _is_pointwise(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and torch.Tag.pointwise in node.target.tags
