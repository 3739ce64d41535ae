"""What a weight keeps to while it is trained: zeros that stay zero, clusters that stay equal."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a layer's weight keeps to through training. Tensors have the weight's shape.

    ``kept`` is False where the weight stays zero. ``indices`` (uint8) says which entry of its codebook a weight is;
    it means nothing where the weight is not kept. There are ``groups`` codebooks of at most ``2**bits`` entries: output
    channel ``o`` belongs to the codebook ``o * groups // c_out``. ``pattern`` is ``n:m`` where ``kept`` follows one.
    """

    kept: Tensor | None = None
    indices: Tensor | None = None
    bits: int = 8
    groups: int = 1
    pattern: str | None = None

    def clusters(self) -> Tensor | None:
        """The number of each weight's cluster among those of all groups, int64; None without a codebook."""
        if self.indices is None:
            return None
        c_out = self.indices.shape[0]
        group = (torch.arange(c_out) * self.groups // c_out).reshape(-1, *[1] * (self.indices.dim() - 1))
        found: Tensor = group * 2**self.bits + self.indices.long()
        return found

    def fits(self, weight: Tensor) -> bool:
        """Whether ``weight`` has the shape and the zeros of this."""
        shaped = self.kept if self.kept is not None else self.indices
        if shaped is None or shaped.shape != weight.shape:
            return False
        return self.kept is None or not bool(weight.detach()[~self.kept].any())

    def nearest(self, weight: Tensor) -> Tensor:
        """The closest weight that keeps to this: zero at zeros, the mean of its cluster elsewhere."""
        return self._by_cluster(weight, lambda sizes: sizes)

    def project(self, gradient: Tensor) -> Tensor:
        """The part of ``gradient`` that keeps to this: zero at zeros, one value for each cluster.

        Equal gradients make AdamW take equal steps, so weights that start on the constraint stay on it to the last bit.
        The value is the gradient of the shared number, the sum over its ``n`` weights, divided by ``√n``: so the norm
        that clipping sees is that of the shared numbers' gradient.
        Source: Han et al. 2016, sec. 3, https://arxiv.org/abs/1510.00149
        """
        return self._by_cluster(gradient, torch.sqrt)

    def _by_cluster(self, values: Tensor, share: Callable[[Tensor], Tensor]) -> Tensor:
        """At each place the sum over its cluster by ``share`` of the cluster's size; without clusters the values."""
        kept = values if self.kept is None else values * self.kept
        clusters = self.clusters()
        if clusters is None:
            return kept
        numbers = clusters.flatten()
        ones = torch.ones_like(values) if self.kept is None else self.kept.to(values.dtype)
        count = 2**self.bits * self.groups
        sums = torch.bincount(numbers, kept.flatten(), count)
        sizes = torch.bincount(numbers, ones.flatten(), count).clamp_min(1)
        shared = (sums / share(sizes)).to(values.dtype)[numbers].reshape(values.shape)
        return shared if self.kept is None else shared * self.kept


@contextmanager
def held(constraints: Iterable[tuple[nn.Parameter, Constraint]]) -> Iterator[None]:
    """Keep parameters to their constraints for as long as the block lasts; a parameter is held once."""
    unique: dict[int, tuple[nn.Parameter, Constraint]] = {}
    for parameter, constraint in constraints:
        unique.setdefault(id(parameter), (parameter, constraint))
    handles: list[RemovableHandle] = [
        parameter.register_hook(constraint.project)  # type: ignore[no-untyped-call]
        for parameter, constraint in unique.values()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def held_in(model: nn.Module, constraints: Mapping[str, Constraint]) -> list[tuple[nn.Parameter, Constraint]]:
    """The weights of the layers that ``constraints`` names, each with its own."""
    return [(model.get_parameter(f"{name}.weight"), item) for name, item in constraints.items()]
