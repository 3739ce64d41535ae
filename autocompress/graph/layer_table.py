"""What the layers with weights do in one forward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.graph.surgery import modules_of

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One convolution or linear layer as it ran: ``positions`` is the number of output points per channel."""

    name: str
    kind: str
    c_in: int
    c_out: int
    kernel: tuple[int, ...]
    groups: int
    positions: int
    params: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        window = 1
        for size in self.kernel:
            window *= size
        return self.positions * self.c_out * (self.c_in // self.groups) * window

    def __str__(self) -> str:
        window = "×".join(str(size) for size in self.kernel)
        groups = f" /{self.groups}" if self.groups > 1 else ""
        return f"{self.kind} {self.c_in}→{self.c_out}" + (f" {window}" if window else "") + groups


@torch.no_grad()
def layer_table(model: nn.Module, example: Tensor) -> tuple[LayerFacts, ...]:
    """Facts of every convolution and linear layer, in order of first execution; layers that do not run are left out."""
    seen: dict[str, LayerFacts] = {}

    def watch(name: str) -> object:
        def hook(module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen.setdefault(name, _facts(name, module, output, batch=example.shape[0]))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in modules_of(model, WEIGHTED)]  # type: ignore[arg-type]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()(example)
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
    return tuple(seen.values())


def _facts(name: str, module: nn.Module, output: Tensor, batch: int) -> LayerFacts:
    params = sum(p.numel() for p in module.parameters(recurse=False))
    if isinstance(module, nn.Linear):
        return LayerFacts(
            name=name,
            kind="Linear",
            c_in=module.in_features,
            c_out=module.out_features,
            kernel=(),
            groups=1,
            positions=max(1, output.numel() // (batch * module.out_features)),
            params=params,
        )
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    return LayerFacts(
        name=name,
        kind=type(module).__name__,
        c_in=module.in_channels,
        c_out=module.out_channels,
        kernel=tuple(module.kernel_size),
        groups=module.groups,
        positions=max(1, output.numel() // (batch * module.out_channels)),
        params=params,
    )
