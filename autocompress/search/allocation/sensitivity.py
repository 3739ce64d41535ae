"""Measuring the sensitivity table: each choice of each unit alone, on the launcher, within a time limit."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autocompress.divergence import SAMPLES, bench_digest
from autocompress.events import Observer, Silence
from autocompress.graph.units import by_units, units_of
from autocompress.recipe import Recipe, Recovery
from autocompress.search.allocation.choices import Choice, choices_by_unit, values_of
from autocompress.search.allocation.interpolate import interpolated, strengths, used
from autocompress.search.allocation.kept_losses import KeptLosses
from autocompress.search.allocation.table import SensitivityTable
from autocompress.search.launcher import Job, Launcher, Work
from autocompress.search.parameters import RecipeBuilder
from autocompress.trial import Bench

ROUND_S = 6.0  # of work between two looks at the clock
MOST_A_JOB = 16  # recipes; what they share is computed once for them
JOBS_A_SLOT = 2  # in a round, so that slots end together
TOGETHER = 8  # choices of a unit one after another: what runs before it is computed for the first of them
BROKEN = 100.0  # nats, of a choice that cannot be composed or gives no numbers: beyond anything that still works

Entry = tuple[int, int]  # unit, choice


def measure_table(
    bench: Bench,
    builder: RecipeBuilder,
    launcher: Launcher,
    *,
    limit_s: float = math.inf,
    folder: Path | None = None,
    observer: Observer | None = None,
) -> SensitivityTable:
    """What each choice of each unit loses alone: measured as far as time goes, the others estimated.

    Args:
        bench: with the network's channel groups and blocks, else they are looked for again for each choice.
        builder: says what space, network and seed the recipes are of.
        launcher: does the work; several recipes a job.
        limit_s: seconds after which nothing more is begun.
        folder: where losses are kept; what was measured there before, of the same weights, data and treatment, is not
            measured again.
        observer: told how far it is.
    """
    entries = _Entries.of(builder)
    kept = KeptLosses(folder, bench_digest(bench) if folder else "")
    measured = _Measuring(
        bench=bench, entries=entries, launcher=launcher, kept=kept, observer=observer or Silence(), limit_s=limit_s
    ).run()
    return _table(entries, measured)


@dataclass(frozen=True, kw_only=True)
class _Entries:
    """Every choice of every unit, and the digest of its treatment; several may come to the same treatment."""

    units: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    recipes: dict[str, Recipe]
    digests: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, builder: RecipeBuilder) -> "_Entries":
        units = units_of(builder.anatomy)
        choices = choices_by_unit(builder.anatomy, builder.space, builder.codebooks)
        builder = replace(builder, anatomy=by_units(builder.anatomy), recovery=Recovery())
        nothing = dict.fromkeys(range(len(units)), Choice())
        recipes: dict[str, Recipe] = {}
        digests = []
        for place, row in enumerate(choices):
            found = [builder.recipe(values_of(nothing | {place: choice})) for choice in row]
            digests.append(tuple(Recipe(passes=recipe.passes, seed=recipe.seed).digest() for recipe in found))
            recipes |= dict(zip(digests[-1], found, strict=True))
        names = tuple(unit.name for unit in units)
        return cls(units=names, choices=choices, recipes=recipes, digests=tuple(digests))

    def unchanged(self) -> set[str]:
        """Digests of the treatments that are none."""
        return {digest for digest, recipe in self.recipes.items() if not recipe.passes}

    def in_order(self) -> list[str]:
        """Digests in the order in which they are worth measuring; each once."""
        ranked = [
            (level, turn, place, choice)
            for place, row in enumerate(self.choices)
            for choice, (level, turn) in enumerate(_worth(row))
        ]
        return list(dict.fromkeys(self.digests[place][choice] for _, _, place, choice in sorted(ranked)))


def _worth(choices: Sequence[Choice]) -> Iterator[tuple[int, int]]:
    """For each choice of a unit its level, and its turn among those of all units at that level.

    Extremes of one technique first, then all techniques at their strongest, then single ones, pairs and the rest.
    """
    rows = np.stack([strengths(choice) for choice in choices])
    most, is_used = rows.max(0), used(choices)
    strongest = int(np.argmax(np.where(rows[:, 4] > 0, -1.0, rows.sum(1))))
    levels = np.minimum(is_used.sum(1), 3) + 1
    levels[levels <= 2] = 2
    levels[[bool((row[own] == most[own]).all()) and own.sum() <= 1 for row, own in zip(rows, is_used, strict=True)]] = 0
    levels[strongest] = min(levels[strongest], 1)
    seen: Counter[int] = Counter()
    turns = np.zeros(len(choices), int)
    for place in np.random.default_rng(0).permutation(len(choices)):  # so that no technique has to wait
        turns[place] = seen[levels[place]] // TOGETHER
        seen[levels[place]] += 1
    return zip(levels.tolist(), turns.tolist(), strict=True)


@dataclass(kw_only=True)
class _Measuring:
    """Rounds of jobs until everything is measured or the time is up."""

    bench: Bench
    entries: _Entries
    launcher: Launcher
    kept: KeptLosses
    observer: Observer
    limit_s: float

    def run(self) -> dict[str, float]:
        """Digest → loss; not a number where measuring failed."""
        found = dict.fromkeys(self.entries.unchanged(), 0.0) | {
            digest: loss for digest, loss in self.kept.read().items() if digest in self.entries.recipes
        }
        total = len(self.entries.recipes)
        waiting = [digest for digest in self.entries.in_order() if digest not in found]
        started, pace_s = time.monotonic(), 0.0
        self.observer.progress(len(found), total, "choices measured")
        while waiting:
            before = time.monotonic()
            left_s = self.limit_s - (before - started)
            if left_s <= pace_s:
                break
            taken = self._taken(waiting, left_s, pace_s)
            for digest, loss in self._round(taken):
                found[digest] = loss
                self.observer.progress(len(found), total, "choices measured")
            pace_s = (time.monotonic() - before) * self.launcher.slots() / len(taken)
            waiting = waiting[len(taken) :]
        return found

    def _taken(self, waiting: list[str], left_s: float, pace_s: float) -> list[str]:
        """The next ones: as many as a round's time holds, one for each slot while the pace is not known."""
        slots = self.launcher.slots()
        each = 1 if not pace_s else max(1, int(min(ROUND_S, left_s) / pace_s))
        return waiting[: slots * min(each, JOBS_A_SLOT * MOST_A_JOB)]

    def _round(self, digests: list[str]) -> Iterator[tuple[str, float]]:
        """Measure them; those that change the same unit go into the same job."""
        rank = {digest: number for number, digest in enumerate(self.entries.recipes)}  # unit by unit
        ordered = sorted(digests, key=rank.__getitem__)
        count = max(1, math.ceil(len(ordered) / (self.launcher.slots() * JOBS_A_SLOT)))
        parts = [ordered[start : start + count] for start in range(0, len(ordered), count)]
        yield from self._measured(parts)

    def _measured(self, parts: list[list[str]]) -> Iterator[tuple[str, float]]:
        """Measure and keep. Of a job that is lost as a whole each is tried alone: one may have ended its process."""
        alone: list[list[str]] = []
        for done in self.launcher.run(self.bench, [self._job(key, part) for key, part in enumerate(parts)]):
            part = parts[done.key]
            if not done.divergences and len(part) > 1:
                alone += [[digest] for digest in part]
                continue
            losses = done.divergences or (math.nan,)
            self.kept.add(dict(zip(part, losses, strict=True)))
            if done.error:
                self.observer.note(f"a choice could not be measured: {done.error.strip().splitlines()[-1]}")
            yield from zip(part, losses, strict=True)
        if alone:
            yield from self._measured(alone)

    def _job(self, key: int, digests: list[str]) -> Job:
        first, *more = [self.entries.recipes[digest] for digest in digests]
        return Job(key=key, work=Work.DIVERGENCE, recipe=first, more=tuple(more))


def _table(entries: _Entries, measured: dict[str, float]) -> SensitivityTable:
    known = [np.array([measured.get(digest, np.nan) for digest in row]) for row in entries.digests]
    broken = [
        np.array([digest in measured for digest in row]) & np.isnan(row_of)
        for row, row_of in zip(entries.digests, known, strict=True)
    ]
    losses = interpolated(entries.choices, known)
    losses = [np.where(is_broken, BROKEN, row) for row, is_broken in zip(losses, broken, strict=True)]
    marks = [np.isfinite(row) for row in known]
    counts = int(sum(map(np.sum, marks))), int(sum(map(np.sum, broken))), sum(map(len, losses))
    return SensitivityTable(
        units=entries.units,
        choices=entries.choices,
        loss=tuple(tuple(row.tolist()) for row in losses),
        measured=tuple(tuple(row.tolist()) for row in marks),
        notes=tuple(_notes(*counts)),
    )


def _notes(measured: int, broken: int, total: int) -> Iterator[str]:
    yield f"{measured} of {total} choices were measured on {SAMPLES} samples"
    if total - measured - broken:
        yield f"{total - measured - broken} choices were interpolated: the time was up"
    if broken:
        yield f"{broken} choices could not be measured and count as broken"
