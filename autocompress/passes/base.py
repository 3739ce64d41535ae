"""What a technique is: frozen settings and a function from model to model.

A pass declares its stage. Recipes list passes in order of stage, because each stage needs what the ones before it left:
blocks and channels are removed while layers are whole, layers are factorized at their final width, what then has equal
shapes can share its weights, clusters leave out the weights that are zero, precision is decided last. A student comes
before all of them: it is another network.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

from torch import Tensor, nn

from autocompress.errors import RecipeError, near
from autocompress.facts import Facts
from autocompress.graph.blocks import Block
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.layers.constraint import Constraint
from autocompress.precision import FilePlan


class Stage(IntEnum):
    """When a pass has its turn."""

    ARCHITECTURE = 5
    STRUCTURE = 10
    SPARSITY = 15
    DECOMPOSE = 20
    SHARE = 25
    CLUSTER = 27
    PRECISION = 30


@dataclass(frozen=True, kw_only=True)
class PassContext:
    """What a pass may ask for beyond the model.

    ``example`` is one batch of model inputs. ``losses`` yields training losses of the model it is given, ready for
    ``backward``; passes that rank by gradients need it. ``groups`` and ``blocks`` are the model's channel groups and
    residual blocks where they have been tried before; they are traced and tried when missing. ``channel_block`` is that
    of the target's ``Machine``. ``constraints`` are what earlier passes put on weights. With ``shapes_only`` the values
    of weights do not matter: what takes long and decides nothing else (factors, clusters) is left out.
    """

    example: Tensor
    seed: int = 0
    losses: Callable[[nn.Module], Iterator[Tensor]] | None = None
    groups: tuple[ChannelGroup, ...] | None = None
    blocks: tuple[Block, ...] | None = None
    channel_block: int = 8
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    shapes_only: bool = False


@dataclass(kw_only=True)
class Outcome:
    """What a pass did: layer → what changed, layer → why it was left alone, layer → what its weight keeps to now.

    ``rewired`` says that layers hang together in another way now: the groups and blocks of the context no longer hold.
    ``network`` stands in the place of the whole model, where it is another one.
    """

    changed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)
    rewired: bool = False
    network: nn.Module | None = None


class Pass(Facts):
    """Base of the techniques. ``apply`` works in place on a copy that it is given, or hands back another network."""

    name: ClassVar[str]
    stage: ClassVar[Stage]
    source: ClassVar[str]
    saves: ClassVar[str]

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:  # noqa: ARG002  # for those that override it
        """Change ``model`` in place."""
        raise RecipeError(f"the pass {self.name} has no apply step")

    def finalize(self, plan: FilePlan) -> FilePlan:
        """The plan of the file with this pass's part in it, asked for after recovery."""
        return plan


def require_layers(model: nn.Module, names: list[str], where: str) -> None:
    """Refuse names that the model does not have.

    Raises:
        RecipeError: naming the first absent layer and the near ones.
    """
    known = [name for name, _ in model.named_modules() if name]
    absent = [name for name in names if name not in set(known)]
    if absent:
        raise RecipeError(
            f"{where} names the layer {absent[0]!r}, which the model does not have{near(absent[0], known)}"
        )


def count_parameters(model: nn.Module) -> int:
    """Parameters of ``model``, each counted once however many layers hold it."""
    return sum(parameter.numel() for parameter in model.parameters())
