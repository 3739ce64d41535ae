"""The files of trials that no other trial dominates: points of the front that cost no training of their own."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autocompress.budget import Metric
from autocompress.facts import write_whole
from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord
from autocompress.search.finalist import FILE, LAYERS, keep_files, layers_of
from autocompress.search.selection import dominates
from autocompress.trial import Product


@dataclass
class KeptFront:
    """Folders in ``folder``, named by the number of the trial."""

    folder: Path
    _facts: dict[int, ModelFacts] = field(default_factory=dict, repr=False)

    def take_up(self, records: Sequence[TrialRecord]) -> None:
        """Go on with the files that an earlier session kept."""
        for record in records:
            if record.facts is not None and is_placed(record.facts) and (self.place(record.number) / FILE).is_file():
                self._facts[record.number] = record.facts

    def offer(self, number: int, facts: ModelFacts, product: Product) -> None:
        """Keep a trained file if it belongs to the front so far; those that it dominates go."""
        self._remove(number)  # of a session that was killed before it told of this trial
        if not is_placed(facts) or any(dominates(other, facts) for other in self._facts.values()):
            return
        write_whole(self.place(number) / LAYERS, layers_of(product).to_json())
        keep_files(self.place(number), product)
        for behind in [key for key, other in self._facts.items() if dominates(facts, other)]:
            self._remove(behind)
        self._facts[number] = facts

    def _remove(self, number: int) -> None:
        """The file goes first: a folder that has it is whole."""
        self._facts.pop(number, None)
        (self.place(number) / FILE).unlink(missing_ok=True)
        shutil.rmtree(self.place(number), ignore_errors=True)

    def files(self) -> Mapping[int, Path]:
        """Number of the trial → where its files are."""
        return {number: self.place(number) for number in sorted(self._facts)}

    def place(self, number: int) -> Path:
        """Where the files of a trial are kept."""
        return self.folder / str(number)


def is_placed(facts: ModelFacts) -> bool:
    """Whether all that a front goes by is known."""
    return facts.accuracy_val is not None and Metric.LATENCY.of(facts) is not None
