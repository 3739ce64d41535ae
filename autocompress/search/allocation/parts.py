"""What a layer becomes by a choice at given widths: itself or two thin layers, each with how its weight is stored.

The same rules as ``search.steps``, for one layer at a time and without a recipe.
"""

from dataclasses import dataclass, replace
from math import prod

from autocompress.graph.layer_table import LayerFacts
from autocompress.passes.share_weights import saves_bytes
from autocompress.precision import Format
from autocompress.search.allocation.choices import Choice
from autocompress.search.steps import LEAST_SPARSE, WHOLE, aligned_rank, can_be_factorized


@dataclass(frozen=True, kw_only=True)
class Part:
    """One layer of the file. ``layer`` has its final widths, its ``params`` are weights and bias.

    ``is_copy``: its weight is stored with another layer's.
    """

    layer: LayerFacts
    form: Format
    codebook: int | None = None
    sparsity: float = 0.0
    is_copy: bool = False

    @property
    def weights(self) -> int:
        """Elements of its weight."""
        return weights_in(self.layer)

    @property
    def has_bias(self) -> bool:
        """Whether the file has one; a convolution without its own gets that of the BatchNorm behind it."""
        return self.layer.params > self.weights

    @property
    def is_int8(self) -> bool:
        """Whether it computes in integers."""
        return self.form.bits is not None


def weights_in(layer: LayerFacts) -> int:
    """Elements of a layer's weight."""
    return layer.c_out * max(1, layer.c_in // layer.groups) * prod(layer.kernel)


def parts_of(
    layer: LayerFacts, c_in: int, c_out: int, choice: Choice, *, align: int, is_copy: bool = False
) -> tuple[Part, ...]:
    """The layers that stand where ``layer`` was, when its unit gets ``choice`` and its widths are these.

    None of them where the block is dropped.
    """
    if choice.drop:
        return ()
    resized = _resized(layer, c_in, c_out)
    if rank := rank_of(resized, choice.rank, align):
        return _pair(resized, rank, choice.precision)
    sparsity = choice.sparse if choice.sparse >= LEAST_SPARSE and not is_copy else 0.0
    codebook = choice.codebook if not is_copy else None
    if codebook is not None and not saves_bytes(int(weights_in(resized) * (1 - sparsity)), codebook):
        codebook = None
    form = choice.precision
    if codebook is not None and form.bits is not None:
        form = Format.INT8
    return (Part(layer=resized, form=form, codebook=codebook, sparsity=sparsity, is_copy=is_copy),)


def rank_of(layer: LayerFacts, share: float, align: int) -> int:
    """The rank of a layer's factors at ``share`` of the full one; 0 where it stays whole."""
    if share > WHOLE or not can_be_factorized(layer):
        return 0
    columns = layer.c_in * prod(layer.kernel)
    rank = aligned_rank(share * min(layer.c_out, columns), align)
    pays = rank < min(layer.c_out, columns) and rank * (layer.c_out + columns) < layer.c_out * columns
    return rank if pays else 0


def _resized(layer: LayerFacts, c_in: int, c_out: int) -> LayerFacts:
    """At other widths, with a bias where the file has one."""
    is_depthwise = layer.groups == layer.c_in == layer.c_out > 1
    groups = c_out if is_depthwise else layer.groups
    has_bias = layer.params > weights_in(layer) or layer.kind != "Linear"
    resized = replace(layer, c_in=c_in, c_out=c_out, groups=groups)
    return replace(resized, params=weights_in(resized) + has_bias * c_out)


def _pair(layer: LayerFacts, rank: int, form: Format) -> tuple[Part, Part]:
    reduce = replace(layer, c_out=rank)
    expand = replace(layer, c_in=rank, kernel=(1,) * len(layer.kernel))
    bias = layer.params - weights_in(layer)
    return (
        Part(layer=replace(reduce, params=weights_in(reduce)), form=form),
        Part(layer=replace(expand, params=weights_in(expand) + bias), form=form),
    )
