"""The techniques, by the names that recipes use."""

from autocompress.errors import RecipeError
from autocompress.passes.base import Outcome, Pass, PassContext, Stage
from autocompress.passes.drop_blocks import DropBlocks
from autocompress.passes.factorize import Factorize
from autocompress.passes.prune_channels import PruneChannels
from autocompress.passes.prune_weights import PruneWeights
from autocompress.passes.quantize import Quantize
from autocompress.passes.share_layers import ShareLayers
from autocompress.passes.share_weights import ShareWeights
from autocompress.passes.student import Student
from autocompress.registry import Registry

PASSES: Registry[type[Pass]] = Registry("pass", RecipeError)
for _pass in (Student, DropBlocks, PruneChannels, PruneWeights, Factorize, ShareLayers, ShareWeights, Quantize):
    PASSES.register(_pass.name)(_pass)

__all__ = [
    "PASSES",
    "DropBlocks",
    "Factorize",
    "Outcome",
    "Pass",
    "PassContext",
    "PruneChannels",
    "PruneWeights",
    "Quantize",
    "ShareLayers",
    "ShareWeights",
    "Stage",
    "Student",
]
