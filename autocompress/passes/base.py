"""What a technique is: frozen settings and a function from model to model.

A pass declares its stage. Recipes list passes in order of stage, because each stage needs what the ones before it left:
channels are removed while layers are whole, layers are factorized at their final width, precision is decided last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

from torch import Tensor, nn

from autocompress.errors import RecipeError, near
from autocompress.facts import Facts
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.precision import FilePlan


class Stage(IntEnum):
    """When a pass has its turn."""

    STRUCTURE = 10
    DECOMPOSE = 20
    PRECISION = 30


@dataclass(frozen=True, kw_only=True)
class PassContext:
    """What a pass may ask for beyond the model.

    ``example`` is one batch of model inputs. ``losses`` yields training losses of the model it is given, ready for
    ``backward``; passes that rank by gradients need it. ``groups`` are the base's channel groups where they have been
    tried before; they are traced and tried when missing. ``channel_block`` is that of the target's ``Machine``.
    """

    example: Tensor
    seed: int = 0
    losses: Callable[[nn.Module], Iterator[Tensor]] | None = None
    groups: tuple[ChannelGroup, ...] | None = None
    channel_block: int = 8


@dataclass(kw_only=True)
class Outcome:
    """What a pass did: layer → what changed, and layer → why it was left alone."""

    changed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class Pass(Facts):
    """Base of the techniques. ``apply`` works in place on a copy that it is given, before recovery."""

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
