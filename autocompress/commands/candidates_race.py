"""The race of candidates on data: as many steps as there is time for, on Ray."""

import os
import time
from collections.abc import Sequence

import torch
from torch import nn

from autocompress.commands.baseline import BATCH, MOST_EPOCHS, measure_pace
from autocompress.commands.candidates_request import Request
from autocompress.events import Observer
from autocompress.recover.sample_stream import SampleStream
from autocompress.search.candidates.filed import Filed
from autocompress.search.candidates.race import GROWTH, Place, Race, affordable_steps, recovery_of
from autocompress.search.launcher import Launcher
from autocompress.students.build import build
from autocompress.target import Machine
from autocompress.task import Task
from autocompress.trial import Bench

RACE_SHARE = 0.6  # of the time, where there is data


def raced(
    field: Sequence[Filed],
    task: Task,
    request: Request,
    machine: Machine,
    seconds: float,
    *,
    launcher: Launcher | None,
    observer: Observer,
) -> list[Place]:
    """How far each came in about ``seconds``, trained on labels by one thread each."""
    owned, ends = launcher is None, time.monotonic() + seconds
    launcher = launcher or _ray(request.workers or machine.cores)
    try:
        slots = launcher.slots()
        networks = [_built(each, task, request.seed) for each in field]
        slowest = max(range(len(field)), key=lambda index: field[index].facts.macs)
        stream = SampleStream(task, request.seed)
        launcher.ready()
        pace = measure_pace(networks[slowest], stream, machine.cores)
        torch.set_num_threads(machine.cores)
        most = max(1, MOST_EPOCHS * stream.epoch_length // BATCH // GROWTH)
        steps = min(most, affordable_steps(ends - time.monotonic(), pace.one_thread, slots, len(field)))
        observer.stage("race", f"{len(field)} for {steps} steps each, the better third for {GROWTH * steps}")
        recoveries = [recovery_of(steps, pace.arithmetic, each) for each in networks]
        bench = Bench(base=networks[0], task=task, target=request.target, machine=machine, stream_seed=request.seed)
        race = Race(
            bench=bench,
            launcher=launcher,
            recoveries=recoveries,
            seed=request.seed,
            limit_s=ends - time.monotonic(),
            progress=lambda done, total: observer.progress(done, total, "trained"),
        )
        return race.run([each.member.architecture for each in field])
    finally:
        if owned:
            launcher.close()


def _built(filed: Filed, task: Task, seed: int) -> nn.Module:
    shape = task.preprocess.shape
    return build(filed.member.architecture, shape=shape, n_outputs=task.n_outputs, seed=seed)


def _ray(workers: int) -> Launcher:
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    from autocompress.search.launch_ray import RayLauncher  # noqa: PLC0415  # one second that others need not pay

    return RayLauncher(workers)
