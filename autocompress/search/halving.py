"""Which candidates may go on to the next rung: asynchronous successive halving.

Source: Li et al. 2020, algorithm 2, https://arxiv.org/abs/1810.05934: whoever belongs to the best third of those that
have ended a rung so far goes on; nobody waits for the others. Who does not belong there yet waits, and may later.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

REDUCTION = 3  # of those at a rung, one goes on
Rank = tuple[float, ...]  # smaller is better


@dataclass
class Halving:
    """Ranks of candidates at each rung, by key; keys break ties, the earlier first."""

    reduction: int = REDUCTION
    _ranks: dict[int, dict[int, Rank]] = field(default_factory=dict)
    _gone_on: dict[int, set[int]] = field(default_factory=dict)

    def ended(self, key: int, rung: int, rank: Rank) -> None:
        """``key`` has come to the end of a rung, and waits."""
        self._ranks.setdefault(rung, {})[key] = rank

    def promoted(self) -> int | None:
        """Who may go on next, of the highest rung that has one."""
        return self._next(lambda count: count // self.reduction)

    def best_waiting(self, least: int) -> int | None:
        """The same when no others come: as many go on as the reduction leaves, rounded up, but at least ``least``."""
        return self._next(lambda count: max(least, math.ceil(count / self.reduction)))

    def go_on(self, key: int) -> None:
        """``key`` waits no more."""
        rung = max(rung for rung, ranks in self._ranks.items() if key in ranks)
        self._gone_on.setdefault(rung, set()).add(key)

    def _next(self, places: Callable[[int], int]) -> int | None:
        for rung in sorted(self._ranks, reverse=True):
            ranks, gone = self._ranks[rung], self._gone_on.get(rung, set())
            best = sorted(ranks, key=lambda key: (ranks[key], key))[: places(len(ranks))]
            found = next((key for key in best if key not in gone), None)
            if found is not None:
                return found
        return None
