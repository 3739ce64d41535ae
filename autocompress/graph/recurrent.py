"""Hidden units of LSTM, GRU and RNN layers: their surgery, and who reads them.

A unit is one row of every gate, one column of the recurrent weights, and whatever reads it. All layers and directions
of one module have the same width, so unit j goes from each of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.graph.surgery import modules_of

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
_LAST_DIM = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


def remove_units(module: nn.RNNBase, units: Sequence[int]) -> None:
    """Take hidden ``units`` out of every layer and direction, in place; gradients follow their weights."""
    if module.proj_size:
        raise ValueError("an LSTM with a projection has two widths; only one is handled")
    width = module.hidden_size
    kept = torch.tensor(sorted(set(range(width)) - set(units)))
    for name, parameter in list(module.named_parameters(recurse=False)):
        gates = len(parameter) // width
        rows = torch.cat([kept + gate * width for gate in range(gates)])
        made = narrowed(parameter, 0, rows)
        if name.startswith("weight_hh"):
            made = narrowed(made, 1, kept)
        elif name.startswith("weight_ih") and not name.startswith("weight_ih_l0"):
            directions = parameter.shape[1] // width
            made = narrowed(made, 1, torch.cat([kept + way * width for way in range(directions)]))
        setattr(module, name, made)
    module.hidden_size = len(kept)


def remove_inputs(module: nn.RNNBase, channels: Sequence[int]) -> None:
    """Take input ``channels`` out of the first layer, in place."""
    kept = torch.tensor(sorted(set(range(module.input_size)) - set(channels)))
    for name in _input_weights(module):
        setattr(module, name, narrowed(getattr(module, name), 1, kept))
    module.input_size = len(kept)


@torch.no_grad()
def zero_units(module: nn.RNNBase, units: Sequence[int]) -> None:
    """Make ``units`` stay at zero: with all gates' inputs zero, a state that starts at zero keeps it."""
    for parameter in module.parameters(recurse=False):
        parameter.view(-1, module.hidden_size, *parameter.shape[1:])[:, list(units)] = 0.0


@torch.no_grad()
def zero_inputs(module: nn.RNNBase, channels: Sequence[int]) -> None:
    """Make the first layer deaf to ``channels``."""
    for name in _input_weights(module):
        getattr(module, name)[:, list(channels)] = 0.0


def unit_scores(module: nn.RNNBase, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Per hidden unit, the sum of ``score`` (weight by weight) over the rows of all gates, layers and directions."""
    total = torch.zeros(module.hidden_size)
    for parameter in module.parameters(recurse=False):
        total += score(parameter).detach().reshape(-1, module.hidden_size, parameter[0].numel()).sum((0, 2)).cpu()
    return total


def narrowed(parameter: Tensor, dim: int, kept: Tensor) -> nn.Parameter:
    """A parameter of the ``kept`` indices along ``dim``; its gradient is narrowed too."""
    kept = kept.to(parameter.device)
    made = nn.Parameter(parameter.detach().index_select(dim, kept), parameter.requires_grad)
    if parameter.grad is not None:
        made.grad = parameter.grad.index_select(dim, kept)
    return made


def hide_cells(_module: nn.RNNBase, inputs: tuple[Tensor, ...], output: Any) -> Any:
    """A forward hook under which every output hangs on one node of the autograd graph, and that on the input.

    A tracer of that graph would otherwise see the cells' arithmetic, and take the last state for something unrelated.
    """
    states = output[1]
    out = output[0].detach() + inputs[0].sum() * 0
    tail = out.sum() * 0
    hidden = tuple(s.detach() + tail for s in states) if isinstance(states, tuple) else states.detach() + tail
    return out, hidden


@torch.no_grad()
def readers_of(model: nn.Module, name: str, example: Tensor) -> dict[str, list[list[int]]]:
    """Layer or norm → for each hidden unit of ``name``, the inputs of that layer that it reaches untouched by others.

    One forward pass with a sample per unit, in which that unit is NaN: NaN survives whatever works channel by channel.
    Layers that mix channels are listed and stop it; norms are listed and pass it on.
    """
    source = model.get_submodule(name)
    assert isinstance(source, RECURRENT)
    found: dict[str, list[list[int]]] = {}
    handles = [source.register_forward_hook(_mark)]
    handles += [handle for key, module in _listeners(model, source) for handle in _listen(key, module, found)]
    try:
        model(example[:1].expand(source.hidden_size, *example.shape[1:]))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _mark(module: nn.RNNBase, _inputs: Any, output: Any) -> Any:
    width = module.hidden_size
    one = torch.where(torch.eye(width, dtype=torch.bool), torch.nan, 0.0).to(output[0])  # [sample, unit]
    ways = one.repeat(1, output[0].shape[-1] // width)
    out = output[0] + (ways[:, None] if module.batch_first else ways)
    states = output[1]
    return out, tuple(s + one for s in states) if isinstance(states, tuple) else states + one


def _listeners(model: nn.Module, source: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    mixing = (nn.Linear, nn.Conv1d, nn.Conv2d, *RECURRENT)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
    return ((key, module) for key, module in modules_of(model, (*mixing, *norms)) if module is not source)


def _listen(key: str, module: nn.Module, found: dict[str, list[list[int]]]) -> list[Any]:
    def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        reached = _by_sample(module, inputs[0].isnan())
        if reached.any():
            found[key] = [row.nonzero().flatten().tolist() for row in reached]

    def stop(_module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            states = output[1]
            clean = tuple(s.nan_to_num() for s in states) if isinstance(states, tuple) else states.nan_to_num()
            return output[0].nan_to_num(), clean
        same = output.shape == inputs[0].shape and not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
        return output.nan_to_num().masked_fill(inputs[0].isnan(), torch.nan) if same else output.nan_to_num()

    return [module.register_forward_pre_hook(note), module.register_forward_hook(stop)]


def _by_sample(module: nn.Module, marked: Tensor) -> Tensor:
    """``[sample, channel]`` of what ``module`` reads, from its whole input."""
    if isinstance(module, RECURRENT) and not module.batch_first:
        marked = marked.transpose(0, 1)
    if not isinstance(module, (*_LAST_DIM, *RECURRENT)):
        marked = marked.movedim(1, -1)
    return marked.reshape(len(marked), -1, marked.shape[-1]).any(1)


def _input_weights(module: nn.RNNBase) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight_ih_l0")]
