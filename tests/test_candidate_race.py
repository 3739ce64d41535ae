"""A race of candidates: who failed is shown, and it is over when its time is."""

import time
from dataclasses import replace

from made_up_candidates import Judge, pool
from torch import nn

from autocompress.recipe import Arithmetic
from autocompress.search.candidates.race import Race, affordable_steps, limit_of_jobs, recovery_of
from autocompress.search.launcher import Done


def test_the_race_shows_who_failed():
    class Failing(Judge):
        def run(self, _bench, jobs):
            return (Done(key=job.key, error="Traceback\nRunError: the loss must stay a number") for job in jobs)

    member = next(iter(pool().members.values()))
    recovery = recovery_of(5, Arithmetic.FP32, nn.Linear(1, 1))
    (place,) = Race(bench=None, launcher=Failing(), recoveries=[recovery]).run([member.architecture])
    assert place.error == "RunError: the loss must stay a number"
    assert place.facts is None


def test_steps_of_the_race_fit_the_time():
    few = affordable_steps(100.0, steps_per_s=10.0, slots=2, field=9)
    assert few == int((100 - 4.0 * (5 + 2)) * 10 / (5 + 2 * 3))
    assert affordable_steps(1.0, steps_per_s=1.0, slots=1, field=9) == 20


def test_trainings_of_a_race_that_falls_behind_end_sooner():
    """Each round shares what is left, less what jobs take beside training; later trainings may last thrice as long."""
    assert limit_of_jobs(100.0, turn=0, slots=2, field=9) == (100 - 4.0 * (5 + 2)) / (5 + 2 * 3)
    assert limit_of_jobs(50.0, turn=1, slots=2, field=9) == (50 - 4.0 * 2) / 2
    assert limit_of_jobs(-5.0, turn=1, slots=2, field=9) == 1.0

    class Late(Judge):
        def run(self, _bench, jobs):
            limits.append([job.limit_s for job in jobs])
            time.sleep(0.2)
            return (replace(done, product=replace(done.product, steps=3)) for done in super().run(_bench, jobs))

    limits: list[list[float]] = []
    member = next(iter(pool().members.values()))
    recovery = recovery_of(5, Arithmetic.FP32, nn.Linear(1, 1))
    (place,) = Race(bench=None, launcher=Late(), recoveries=[recovery], limit_s=20.0).run([member.architecture])
    assert (place.round, place.steps) == (2, 3), "the steps that were made, not those that were planned"
    slots = Late().slots()
    (first,), (second,) = limits
    assert limit_of_jobs(15.0, 0, slots, 1) <= first <= limit_of_jobs(20.0, 0, slots, 1)
    assert limit_of_jobs(15.0, 1, slots, 1) <= second <= limit_of_jobs(20.0 - 0.2, 1, slots, 1)
