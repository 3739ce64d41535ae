"""Architectures with their files: built once for scores and export."""

from dataclasses import dataclass

from torch import Tensor, nn

from autocompress.export.compact import compact
from autocompress.export.draft_export import draft_onnx
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
    """An architecture, the bytes of its untrained file, what is counted on that, and scores without training.

    A file that ``is_draft`` is for forecasts: see ``export.draft_export``.
    """

    member: Counted
    file: bytes
    facts: ModelFacts
    scores: Scores
    is_draft: bool = False

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

    def draft(self, member: Counted) -> Filed:
        """Build, score and export for a forecast.

        Raises:
            ModelError: PyTorch cannot export it.
        """
        model = self._built(member)
        scores = scores_of(model, self.preprocess.shape, params=member.params, macs=member.macs, inputs=self.inputs)
        content: bytes = draft_onnx(model, self.preprocess, self.target.batch).SerializeToString()
        return Filed(member=member, file=content, facts=facts_of(content), scores=scores, is_draft=True)

    def finished(self, draft: Filed) -> Filed:
        """With the file that is delivered.

        Raises:
            ModelError: PyTorch cannot export it.
        """
        proto = compact(to_onnx(self._built(draft.member), self.preprocess, self.target.batch))
        content: bytes = proto.SerializeToString()
        return Filed(member=draft.member, file=content, facts=facts_of(content), scores=draft.scores)

    def _built(self, member: Counted) -> nn.Module:
        return build(member.architecture, shape=self.preprocess.shape, n_outputs=self.n_outputs, seed=self.seed)
