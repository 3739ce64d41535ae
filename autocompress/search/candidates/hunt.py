"""From a space and a budget to measured files: draw, count, estimate, export, forecast, measure, replace."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autocompress.budget import Metric
from autocompress.errors import AutocompressError
from autocompress.events import Observer
from autocompress.measurement import Latency
from autocompress.search.candidates.draw import Counted, Pool, RoughTimes, set_right
from autocompress.search.candidates.filed import Filed, Workshop
from autocompress.search.candidates.latencies import (
    ByLayers,
    Foreteller,
    calmer,
    measured,
    strays,
    with_strays_again,
)
from autocompress.search.candidates.spread import evidence, spread
from autocompress.search.costing import measure_ram
from autocompress.search.forecast import Forecast

DRAWN, BRED, ROUNDS_OF_BREEDING, PARENTS = 200, 80, 2, 30
PILOTS = 12  # files that estimates from layers are set right by
FIRST, FIRST_OF = 6, 3  # files, at most a third, whose measurement corrects the forecasts of the rest
FILES_EACH = 2  # exported for one that is wanted
MEASURINGS = 6  # rounds of measuring and replacing
CHEAPEST = 3  # tried where nothing seems to fit
LEEWAY = 1.05  # over a latency limit, for estimates that are only set right by a dozen files
DRAW_UNTIL, EXPORT_UNTIL = 0.3, 0.7  # of the time
FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Limits in the metrics' own units, the cost to spread over, and how many architectures."""

    limits: Mapping[Metric, float]
    axis: Metric
    count: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What was measured of a file, after what had been said of it; ``first`` is what was said at the very beginning."""

    latency: Latency
    ram_bytes: int | None
    said: Forecast | None
    first: Forecast | None
    corrects: bool


@dataclass
class Hunt:
    """One search for candidates; ``run`` gives those to deliver. ``seconds`` bound drawing and exporting."""

    wish: Wish
    pool: Pool
    workshop: Workshop
    foreteller: Foreteller
    observer: Observer
    seconds: float
    measure: Callable[..., list[Latency]] = measured
    filed: dict[str, Filed] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._rough: RoughTimes = set_right(())
        self._first: dict[str, Forecast] = {}
        self._limit_ms = self.wish.limits.get(Metric.LATENCY, math.inf)

    def run(self) -> list[tuple[Filed, Cost]]:
        """Up to as many as are wanted that meet every limit, measured; the worthiest first."""
        self.observer.stage("draw", f"architectures of {', '.join(self.pool.families)}")
        self.pool.draw(DRAWN, self._enough_drawn)
        if self._limits_latency:
            self._pilot()
        for _ in range(ROUNDS_OF_BREEDING):
            self.pool.breed(self._parents(), BRED, self._enough_drawn)
        self.observer.stage("export", "those that look best, for their forecasts and scores")
        self._export()
        self.observer.stage("measure", "the chosen ones")
        return self._measured_choice()

    def least(self) -> dict[Metric, float]:
        """The least of each limited cost that was seen."""
        found = {}
        for metric in self.wish.limits:
            values = [self._value(metric, each) for each in self.filed.values()]
            counted = [self._cost(metric, each) for each in self.pool.members.values()]
            known = [value for value in values if value is not None]
            if metric in (Metric.MACS, Metric.PARAMS):
                known += counted
            if known:
                found[metric] = min(known)
        return found

    @property
    def _limits_latency(self) -> bool:
        return Metric.LATENCY in self.wish.limits

    def _enough_drawn(self) -> bool:
        self.observer.progress(len(self.pool.members), DRAWN + ROUNDS_OF_BREEDING * BRED, "architectures")
        return self._share_gone() > DRAW_UNTIL

    def _share_gone(self) -> float:
        return (time.monotonic() - self._started) / self.seconds

    def _cost(self, metric: Metric, member: Counted) -> float:
        """What is counted or estimated before there is a file."""
        if metric is Metric.LATENCY:
            return self._rough.ms(member)
        if metric is Metric.MACS:
            return member.macs
        return member.params if metric is Metric.PARAMS else FLOAT_BYTES * member.params

    def _worst(self, member: Counted) -> float:
        """The largest ratio of a cost to its limit."""
        leeway = {Metric.LATENCY: LEEWAY}
        return max(
            self._cost(metric, member) / limit / leeway.get(metric, 1.0) for metric, limit in self.wish.limits.items()
        )

    def _pilot(self) -> None:
        """Learn how estimates from layers relate to this machine, on files from the whole range of each family."""
        counts = [member for member in self.pool.members.values() if self._keeps_counts(member)]
        order = sorted(counts, key=lambda member: (member.architecture.family, member.rough_ms))
        picked = [order[(2 * place + 1) * len(order) // (2 * PILOTS)] for place in range(PILOTS)] if order else []
        for place, member in enumerate(dict.fromkeys(each.key for each in picked)):
            self.observer.progress(place, PILOTS, "exported for their times")
            self._file(self.pool.members[member])
        if isinstance(self.foreteller, ByLayers):
            self._measure_pilots()
        self._set_right()

    def _measure_pilots(self) -> None:
        """For estimates only: drafts, and fewer rounds than those that are delivered get."""
        files = list(self.filed.values())
        if files:
            latencies = self.measure([each.file for each in files], self.workshop.target, rounds=6, window_ms=30.0)
            self.foreteller.learn(list(zip(files, latencies, strict=True)))

    def _keeps_counts(self, member: Counted) -> bool:
        limits = self.wish.limits
        return all(self._cost(metric, member) <= limit for metric, limit in limits.items() if metric != Metric.LATENCY)

    def _set_right(self) -> None:
        files = list(self.filed.values())
        said = self._say(files)
        known = [
            (each.member, self.costs[each.key].latency.median_ms if each.key in self.costs else forecast.ms)
            for each, forecast in zip(files, said, strict=True)
        ]
        self._rough = set_right((member, ms) for member, ms in known if math.isfinite(ms))

    def _parents(self) -> Sequence[Counted]:
        """The most promising that seem to fit; those nearest to fitting where none does."""
        members = list(self.pool.members.values())
        fitting = [member for member in members if self._worst(member) <= 1]
        if not fitting:
            return sorted(members, key=self._worst)[:PARENTS]
        worth = _cheap_evidence(fitting)
        return [fitting[index] for index in sorted(range(len(fitting)), key=lambda i: -worth[i])[:PARENTS]]

    def _export(self) -> None:
        wanted = FILES_EACH * self.wish.count
        for _ in range(2):  # the second round knows more of their times, and makes up for those that do not fit
            before = len(self.filed)
            chosen = self._to_export(wanted)
            for place, member in enumerate(chosen):
                if self._share_gone() > EXPORT_UNTIL and place >= self.wish.count:
                    self.notes.append(f"time was over after {len(self.filed)} exported files; --time gives more")
                    return
                self.observer.progress(place, len(chosen), "exported")
                self._file(member)
            if self._limits_latency:
                self._set_right()
            if len(self.filed) == before or len(self._fitting()) >= wanted:
                return

    def _to_export(self, wanted: int) -> list[Counted]:
        """The most promising in each step of cost; the cheapest where none seems to fit."""
        members = list(self.pool.members.values())
        fitting = [member for member in members if self._worst(member) <= 1]
        if not fitting:
            return sorted(members, key=self._worst)[:CHEAPEST]
        leeway = LEEWAY if self.wish.axis is Metric.LATENCY else 1.0
        costs = [self._cost(self.wish.axis, member) for member in fitting]
        picked = spread(costs, _cheap_evidence(fitting), leeway * self.wish.limits[self.wish.axis], wanted)
        return [fitting[index] for index in picked]

    def _file(self, member: Counted) -> None:
        if member.key in self.filed:
            return
        try:
            self.filed[member.key] = self.workshop.draft(member)
        except AutocompressError as error:
            self._leave_out(member, error)

    def _finished(self, files: Sequence[Filed]) -> Iterator[Filed]:
        """Files as they are delivered, in the place of drafts."""
        for place, each in enumerate(files):
            self.observer.progress(place, len(files), "exported")
            try:
                self.filed[each.key] = self.workshop.finished(each)
            except AutocompressError as error:
                self._leave_out(each.member, error)
            else:
                yield self.filed[each.key]

    def _leave_out(self, member: Counted, error: AutocompressError) -> None:
        self.notes.append(f"{member.architecture.family} {member.key}: left out, {error}")
        self.pool.members.pop(member.key, None)
        self.filed.pop(member.key, None)

    def _say(self, files: Sequence[Filed]) -> list[Forecast]:
        said = self.foreteller.say(files)
        for each, forecast in zip(files, said, strict=True):
            self._first.setdefault(each.key, forecast)  # of the draft: nothing had been measured by then
        return said

    def _value(self, metric: Metric, filed: Filed) -> float | None:
        """What is known of a file: measured, or counted on it; None for what is not measured."""
        cost = self.costs.get(filed.key)
        if metric is Metric.LATENCY:
            return None if cost is None else cost.latency.median_ms
        return metric.of(filed.facts) if metric is not Metric.RAM else None if cost is None else cost.ram_bytes

    def _keeps(self, filed: Filed) -> bool:
        """Whether everything known keeps the limits."""
        values = {metric: self._value(metric, filed) for metric in self.wish.limits}
        return all(value is None or value <= self.wish.limits[metric] for metric, value in values.items())

    def _fitting(self) -> list[tuple[Filed, float]]:
        """Files that may be delivered, each with its cost: sure ones, then likely ones where those are too few."""
        files = [each for each in self.filed.values() if self._keeps(each)]
        said = self._say(files)
        measured = {each.key: self._value(Metric.LATENCY, each) for each in files}
        for end in ("high_ms", "ms"):
            kept = [
                (each, measured[each.key] or forecast.ms)
                for each, forecast in zip(files, said, strict=True)
                if measured[each.key] is not None or getattr(forecast, end) <= self._limit_ms
            ]
            if sum(not self._contradicted(each) for each, _ in kept) >= self.wish.count:
                break
        if not kept:
            order = sorted(zip(files, said, strict=True), key=lambda pair: pair[1].ms)
            kept = [(each, min(forecast.ms, self._limit_ms)) for each, forecast in order[:CHEAPEST]]
        return kept

    def _choice(self, files: Sequence[tuple[Filed, float]]) -> list[Filed]:
        """Up to as many as are wanted: contradicted ones only where there are too few others."""
        sound = self._spread([each for each in files if not self._contradicted(each[0])])
        return (
            sound
            + self._spread([each for each in files if self._contradicted(each[0])])[: self.wish.count - len(sound)]
        )

    def _contradicted(self, filed: Filed) -> bool:
        """Whether the clock said something else than the profile: one of them is wrong, and which is not known."""
        cost = self.costs.get(filed.key)
        by_profile = not isinstance(self.foreteller, ByLayers)  # whose estimates say less
        return by_profile and cost is not None and cost.said is not None and strays(cost.latency, cost.said)

    def _spread(self, files: Sequence[tuple[Filed, float]]) -> list[Filed]:
        if not files:
            return []
        worth = self.evidence([each for each, _ in files])
        axis = self.wish.axis
        costs = [ms if axis is Metric.LATENCY else self._value(axis, each) or 0.0 for each, ms in files]
        return [files[index][0] for index in spread(costs, worth, self.wish.limits[axis], self.wish.count)]

    def evidence(self, files: Sequence[Filed]) -> list[float]:
        """Of each, among all that were exported and seem to fit."""
        every = [each for each in self.filed.values() if self._worst(each.member) <= 1]
        keys = {each.key for each in every}
        every += [each for each in files if each.key not in keys]
        worth = evidence([each.scores.ranked() for each in every])
        by_key = dict(zip([each.key for each in every], worth.tolist(), strict=True))
        return [by_key[each.key] for each in files]

    def _measured_choice(self) -> list[tuple[Filed, Cost]]:
        for turn in range(MEASURINGS):
            files = self._fitting()
            new = [each for each in self._choice(files) if each.key not in self.costs]
            if not new or (self.costs and self._share_gone() > 1 and turn > 1):
                break
            if turn == 0 and not isinstance(self.foreteller, ByLayers):
                new = sorted(new, key=lambda each: self._first[each.key].ms)
                new = new[:: max(FIRST_OF, math.ceil(len(new) / FIRST))]
            self._measure_now(new, corrects=turn == 0)
        self._measure_disturbed_again()
        done = [each for each in self.filed.values() if each.key in self.costs and self._keeps(each)]
        picked = self._choice([(each, self.costs[each.key].latency.median_ms) for each in done])
        left = sum(map(self._contradicted, done)) - sum(map(self._contradicted, picked))
        if left:
            self.notes.append(f"measured and left out: {left} that took over 10 % more or less than was predicted")
        return [(each, self.costs[each.key]) for each in picked]

    def _measure_disturbed_again(self) -> None:
        """At another moment, once; the calmer measurement counts, whatever it says."""
        disturbed = [
            each for each in self.filed.values() if each.key in self.costs and self.costs[each.key].latency.noisy
        ]
        if not disturbed or self._share_gone() > 1:
            return
        self.observer.progress(len(self.costs) - len(disturbed), len(self.costs), "measured undisturbed")
        again = self.measure([each.file for each in disturbed], self.workshop.target)
        for each, latency in zip(disturbed, again, strict=True):
            cost = self.costs[each.key]
            self.costs[each.key] = replace(cost, latency=calmer(cost.latency, latency))

    def _measure_now(self, files: Sequence[Filed], *, corrects: bool = True) -> None:
        files = list(self._finished(files))
        if not files:
            return
        said = self._say(files)
        self.observer.progress(len(self.costs), len(self.costs) + len(files), "measured")
        contents, target = [each.file for each in files], self.workshop.target
        latencies = self.measure(contents, target)
        by_layers = isinstance(self.foreteller, ByLayers)  # whose estimates say less, and learn from all
        if self._share_gone() < 1 and not by_layers:
            latencies = with_strays_again(
                latencies, said, lambda places: self.measure([contents[place] for place in places], target)
            )
        for each, forecast, latency in zip(files, said, latencies, strict=True):
            ram = measure_ram(each.file, self.workshop.target) if Metric.RAM in self.wish.limits else None
            self.costs[each.key] = Cost(
                latency=latency,
                ram_bytes=ram,
                said=forecast,
                first=self._first[each.key],
                corrects=corrects and (by_layers or not latency.noisy),
            )
        self.foreteller.learn(list(zip(files, latencies, strict=True)))
        self.observer.progress(len(self.costs), len(self.costs), "measured")


def _cheap_evidence(members: Sequence[Counted]) -> list[float]:
    found: list[float] = evidence([(member.params, member.macs) for member in members]).tolist()
    return found
