"""Outputs of changed copies of a network, without computing again what runs before the change.

Modules whose calls end before the first changed one begins are replaced by their recorded outputs. Whether a network
lets itself be replayed so is tried on the unchanged one: the same bits must come out. Else everything is computed.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.graph.surgery import replace_module

MOST_BYTES = 512 * 2**20  # of recorded outputs
Ready = Callable[[nn.Module], None]


@dataclass(kw_only=True)
class _Calls:
    """When a module ran: the number of the event in which its first call began and its last one ended."""

    begin: int
    end: int = 0
    bytes: int = 0
    gives_tensor: bool = True


class _Replay(nn.Module):
    """Gives what was recorded, one batch after another."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        super().__init__()
        self._parts, self._place = parts, 0

    def forward(self, *_: object, **__: object) -> Tensor:
        part = self._parts[self._place % len(self._parts)]
        self._place += 1
        return part.clone()  # whoever reads it may change it in place


class Recording:
    """One network's outputs on some batches; ``ready`` puts a network into the mode in which it runs.

    ``model`` is left alone. Changed networks are copies of it in which some modules differ.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Tensor], ready: Ready) -> None:
        self._model, self._batches, self._ready = model, batches, ready
        self._calls: dict[str, _Calls] = {}
        self._kept: dict[str, list[Tensor]] = {}
        self._can_replay: dict[frozenset[str], bool] = {}
        self.outputs = self._watched()

    @torch.no_grad()
    def outputs_of(self, changed: nn.Module, touched: Collection[str] = ()) -> Tensor:
        """Outputs ``[n, ...]`` of a changed network, which is used up.

        What runs before the change is recorded, and replayed the next time that the same runs before it. ``touched``
        are modules that work otherwise although type, parameters and buffers are the original's.
        """
        names = self._before_change(changed, touched)
        self._ready(changed)
        if names and names == self._kept.keys() and self._is_sound(names):
            return self._run(changed, names)
        self._kept = {}
        if sum(self._calls[name].bytes for name in names) <= MOST_BYTES:
            self._kept = {name: [] for name in names}
            for name in names:
                changed.get_submodule(name).register_forward_hook(self._keep(name))
        return self._run(changed, ())

    def _run(self, model: nn.Module, names: Collection[str]) -> Tensor:
        for name in names:
            replace_module(model, name, _Replay(self._kept[name]))
        return torch.cat([model(batch) for batch in self._batches])

    @torch.no_grad()
    def _watched(self) -> Tensor:
        """Run the original, and note when each module runs."""
        model = self._fresh()
        clock = [0]

        def begin(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: object) -> None:
                clock[0] += 1
                self._calls.setdefault(name, _Calls(begin=clock[0]))

            return hook

        def end(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: object, output: object) -> None:
                clock[0] += 1
                calls = self._calls[name]
                calls.end = clock[0]
                calls.gives_tensor &= isinstance(output, Tensor)
                calls.bytes += output.nbytes if isinstance(output, Tensor) else 0

            return hook

        handles = []
        for name, module in model.named_modules():
            handles += [module.register_forward_pre_hook(begin(name)), module.register_forward_hook(end(name))]
        first = model(self._batches[0])
        for handle in handles:
            handle.remove()
        scale = sum(map(len, self._batches)) / len(self._batches[0])
        for calls in self._calls.values():
            calls.bytes = int(calls.bytes * scale)
        return torch.cat([first, *(model(batch) for batch in self._batches[1:])])

    def _fresh(self) -> nn.Module:
        model = copy.deepcopy(self._model)
        self._ready(model)
        return model

    def _before_change(self, changed: nn.Module, touched: Collection[str]) -> frozenset[str]:
        """The largest modules that run once, and wholly before anything that differs."""
        others = dict(changed.named_modules())
        differ = [
            name
            for name, module in self._model.named_modules()
            if name in touched or not _is_same(module, others.get(name))
        ]
        first = min((self._calls[name].begin for name in differ if name in self._calls), default=0)
        found: list[str] = []
        for name, _ in self._model.named_modules():  # a module comes before those inside it
            calls = self._calls.get(name)
            if name and calls and calls.gives_tensor and calls.end < first and not _lies_in_any(name, found):
                found.append(name)
        return frozenset(found)

    def _is_sound(self, names: frozenset[str]) -> bool:
        """Whether the original gives the same outputs with what was recorded; tried once."""
        if names not in self._can_replay:
            self._can_replay[names] = self._replays(names)
        return self._can_replay[names]

    def _replays(self, names: frozenset[str]) -> bool:
        if any(len(parts) != len(self._batches) for parts in self._kept.values()):
            return False
        try:
            return torch.equal(self._run(self._fresh(), names), self.outputs)
        except Exception:  # whatever a network does with a module that is not there any more
            return False

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self._kept[name].append(output.clone())

        return hook


def _lies_in_any(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _is_same(one: nn.Module, other: nn.Module | None) -> bool:
    """Whether type, own parameters and own buffers agree; what lies inside has its own turn."""
    if other is None or type(other) is not type(one):
        return False
    mine, its = (dict(_own_tensors(module)) for module in (one, other))
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
