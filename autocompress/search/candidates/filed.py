"""Architectures with their files: built once for scores and export."""

from dataclasses import dataclass

from torch import Tensor

from autocompress.export.compact import compact
from autocompress.export.onnx_file import to_onnx
from autocompress.measurement import ModelFacts
from autocompress.search.candidates.draw import Counted
from autocompress.search.candidates.scores import Scores, scores_of
from autocompress.students.build import build
from autocompress.target import Target
from autocompress.task import Preprocess
from autocompress.trial import facts_of


@dataclass(frozen=True, kw_only=True)
class Filed:
    """An architecture, the bytes of its untrained file, what is counted on that, and scores without training."""

    member: Counted
    file: bytes
    facts: ModelFacts
    scores: Scores

    @property
    def key(self) -> str:
        """Tells architectures apart."""
        return self.member.key


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Makes files; ``inputs [n, ...]`` are what scores are taken on, None for noise."""

    preprocess: Preprocess
    n_outputs: int
    target: Target
    seed: int = 0
    inputs: Tensor | None = None

    def file(self, member: Counted) -> Filed:
        """Build, score and export.

        Raises:
            ModelError: PyTorch cannot export it.
        """
        shape = self.preprocess.shape
        model = build(member.architecture, shape=shape, n_outputs=self.n_outputs, seed=self.seed)
        scores = scores_of(model, shape, params=member.params, macs=member.macs, inputs=self.inputs)
        content: bytes = compact(to_onnx(model, self.preprocess, self.target.batch)).SerializeToString()
        return Filed(member=member, file=content, facts=facts_of(content), scores=scores)
