"""Blocks of equal structure, and the weights that they can hold in common."""

from torch import nn

_NORMS = (nn.LayerNorm, nn.RMSNorm)  # whose weights may have two dimensions and still scale activations one by one
Shapes = dict[str, tuple[int, ...]]


def sharable_blocks(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Groups of sibling modules of equal structure, such as the blocks of a transformer, in definition order.

    The outermost ones: what lies inside a group is not listed again. A block has at least two matrices (a layer and its
    norm are none), and blocks that hold one set of weights already form no group.
    """
    groups: list[tuple[str, ...]] = []
    for parent, module in model.named_modules():
        if any(_lies_in(parent, name) for group in groups for name in group):
            continue
        alike: dict[tuple[tuple[str, tuple[int, ...]], ...], list[str]] = {}
        for child, block in module.named_children():
            if len(matrices_of(block)) > 1:
                alike.setdefault(tuple(shapes_of(block).items()), []).append(f"{parent}.{child}" if parent else child)
        groups += [group for names in alike.values() if len(group := _with_own_weights(model, names)) > 1]
    return tuple(groups)


def shapes_of(block: nn.Module) -> Shapes:
    """Parameter → shape, a parameter that is used twice under both names."""
    return {name: tuple(p.shape) for name, p in block.named_parameters(remove_duplicate=False)}


def matrices_of(block: nn.Module) -> tuple[str, ...]:
    """Names of the weights that multiply: kernels and matrices; no biases, norms nor tables of positions."""
    return tuple(
        name
        for name, parameter in block.named_parameters(remove_duplicate=False)
        if parameter.dim() > 1
        and "weight" in name.rpartition(".")[2]
        and not isinstance(block.get_submodule(name.rpartition(".")[0]), _NORMS)
    )


def share_matrices(first: nn.Module, other: nn.Module) -> None:
    """Let ``other`` hold the very weights of ``first``, which has the same structure, in place."""
    for name in matrices_of(first):
        owner, _, last = name.rpartition(".")
        setattr(other.get_submodule(owner), last, first.get_parameter(name))


def first_difference(first: nn.Module, other: nn.Module, first_name: str) -> str:
    """The first parameter in which ``other`` differs from ``first``; empty when none does."""
    ours, theirs = shapes_of(first), shapes_of(other)
    for parameter, shape in ours.items():
        if parameter not in theirs:
            return f"it has no {parameter}, which {first_name} has"
        if theirs[parameter] != shape:
            return f"its {parameter} is {list(theirs[parameter])}, that of {first_name} is {list(shape)}"
    more = [parameter for parameter in theirs if parameter not in ours]
    return f"it has {more[0]}, which {first_name} does not have" if more else ""


def _with_own_weights(model: nn.Module, names: list[str]) -> tuple[str, ...]:
    """The first of the blocks, and those that do not hold its weights already."""
    owners: dict[int, str] = {}
    for name in names:
        block = model.get_submodule(name)
        owners.setdefault(id(block.get_parameter(matrices_of(block)[0])), name)
    return tuple(owners.values())


def _lies_in(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")
