"""Runs ONNX files in a fresh process and writes what it saw, one JSON object a line, on stdout.

``python runner.py plan.json`` needs numpy and onnxruntime only, so that it can be copied to another device as it is.
The plan names its ``mode``: ``latency`` times several files round-robin, ``kernels`` times each with its single
kernels, ``ram`` watches the memory of one, ``kit`` works through the models of a kit for another device.

Latency: every round visits all files in a new random order, each for a window of single runs. A fixed matrix product is
timed before and after each round; what it deviates from its median tells how much the machine was disturbed. Two
more readings tell what other guests of the machine take of it; runs that were not calm are made again while there is
patience.

Kit: each model is measured by a process of its own, within a time limit, and its result is written before the next one
begins. Started again, it goes on behind what is written.
"""

import os

if __name__ == "__main__":  # before numpy is imported, which reads them once
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"
    os.environ["VECLIB_MAXIMUM_THREADS"] = "1"

import base64
import json
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnxruntime as ort

REFERENCE_WIDTH = 192  # of the square matrix product: 0.2 ms on one core of a 2020s server, before other guests come
REFERENCE_REPEATS = 8
WARM_UP_RUNS = 3
WAKE_S = 0.1  # of work before anything is timed
FEWEST_RUNS = 5  # in a window, unless the model is so slow that they would last SLOW_WINDOWS windows
SLOW_WINDOWS = 5.0
RAM_RUNS = 3
GRAPH = "graph.onnx"
SETTLING_RUNS = 2  # of a profile: the first ones allocate
MOST_PROFILED_RUNS = 300  # that count: each kernel of each run is a line that has to be read again
SETTLING_SHARE = 0.4  # of a window, which does not count: the outer caches do not keep weights from the first run on
RESULTS = "results.jsonl"
PULSE_STEPS = 400  # of an interpreter's loop: about 7 us
CHUNK_MS = 0.3  # of runs between two readings of the pulse
REACH_OF_CACHE = 1.5  # times the core's own cache
LINE_BYTES = 64
MOST_PICKS = 24
CALM_PULSE, CALM_REACH = 0.4, 0.6  # of the fastest reading: what others in calm moments may be slower by
POLL_S = 0.005
PATIENCE = 0.3  # share of the time that may be lost on moments that are not calm
USUAL_SHARE = 0.5  # of a kernel's runs: guests that came and went between two pulses slow down some of the others
LOW_QUANTILE = 0.25  # of a window's runs, for the same reason
GRACE_S = 0.2  # which may be lost in any case
MOST_LOST_S = 8.0  # at one file or visit: the next one may come at a calmer time
LINGER_S = 0.005  # on a restless core before another is tried: guests come and go within milliseconds
MOVING_RUNS = 3  # that do not count on another core, whose own cache is cold; the outer one is shared

Emit = Callable[..., None]
Feed = dict[str, np.ndarray[Any, Any]]


def main(plan: dict[str, Any], emit: Emit) -> None:
    """Do what ``plan`` says."""
    emit("runtime", version=ort.__version__)
    modes = {"latency": time_files, "kernels": time_kernels, "ram": watch_memory, "kit": work_through}
    modes[plan["mode"]](plan, emit)


def open_session(file: str, threads: int, notes: str | None = None) -> ort.InferenceSession:
    """A session whose threads do not spin: waiting threads would take the time of whatever runs beside them.

    With ``notes``, a folder, the session profiles itself and leaves its optimized graph there, large weights apart.
    """
    options = ort.SessionOptions()
    if notes is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(notes, "profile")  # noqa: PTH118 - the runtime wants a string
        options.optimized_model_filepath = os.path.join(notes, GRAPH)  # noqa: PTH118
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def random_feed(session: ort.InferenceSession, batch: int, seed: int) -> Feed:
    """Normal floats and zero-or-one integers for every input; a dynamic batch becomes ``batch``."""
    rng = np.random.default_rng(seed)
    feed = {}
    for value in session.get_inputs():
        shape = [batch if i == 0 and not isinstance(n, int) else n for i, n in enumerate(value.shape)]
        if not all(isinstance(n, int) for n in shape):
            raise ValueError(f"input {value.name!r} must have a static shape, got {value.shape}; export it with one")
        kind = re.sub(r"tensor\((\w+)\)", r"\1", value.type).replace("double", "float64")
        dtype = np.dtype({"float": "float32"}.get(kind, kind))
        is_float = np.issubdtype(dtype, np.floating)
        feed[value.name] = (rng.standard_normal(shape) if is_float else rng.integers(0, 2, shape)).astype(dtype)
    return feed


class Senses:
    """Whether this moment is calm, by two readings that other guests of the same machine change and no clock shows.

    The *pulse*, a loop of the interpreter: while another guest works on the other half of this core, its decoders serve
    both, and what is not bound by arithmetic takes up to twice as long. The *reach*, numbers picked from all over a
    little more than the core's own cache holds: while other guests fill the outer cache, weights come from memory. A
    matrix product feels little of either. ``tests/benchmarks/neighbours.py`` shows what both do to networks.

    *Unrest* is how far a reading is beyond the fastest ones, in units of what calm moments differ by: up to 1 is calm.

    Guests that share one core leave another alone, so a single thread moves on to the next core that is calm.

    Args:
        fastest: microseconds of calm readings of earlier processes, if there were any.
        patience: the share of the time that may be lost on moments that are not calm.
        threads: of the runtime; with more than one, the pulse of the least calm core counts.
    """

    def __init__(self, fastest: dict[str, float] | None = None, patience: float = PATIENCE, threads: int = 1) -> None:
        self.fastest = dict(fastest or {})
        self._patience = patience
        self._last: dict[str, deque[float]] = {}
        self._born, self._lost_s, self._lost_before_s = time.perf_counter(), 0.0, 0.0
        spread = round(REACH_OF_CACHE * own_cache_bytes()) // LINE_BYTES
        numbers = LINE_BYTES // 4
        self._far = np.zeros(spread * numbers, np.float32)
        self._places = np.random.default_rng(0).permutation(spread) * numbers
        self._picked = np.empty(spread, np.float32)
        self._listeners = listeners() if threads > 1 else []
        self._cores = deque(cores() if threads == 1 else ())

    def pulse(self) -> float:
        """Unrest by the middle of three short loops."""
        if not self._listeners:
            return self._unrest("pulse_us", _loop_us(), CALM_PULSE)
        return self._unrest("pulse_us", max(each.submit(_loop_us).result() for each in self._listeners), CALM_PULSE)

    def reach(self) -> float:
        """Unrest by picking again and again; what is in the core's own cache is pushed out by it.

        A network that ran before may have pushed these numbers out of the outer cache. They settle there within some
        ten times, unless other guests keep it: so the calmest three in a row count.
        """
        most_us = (1 + CALM_REACH) * self.fastest.get("reach_us", 0.0)
        readings: list[float] = []
        calmest_us = float("inf")
        while len(readings) < MOST_PICKS and calmest_us > most_us:
            started = time.perf_counter_ns()
            np.take(self._far, self._places, out=self._picked, mode="clip")
            readings.append((time.perf_counter_ns() - started) / 1e3)
            if len(readings) >= 3:
                calmest_us = min(calmest_us, sorted(readings[-3:])[1])
        return self._unrest("reach_us", calmest_us, CALM_REACH)

    def _unrest(self, name: str, reading_us: float, calm: float) -> float:
        last = self._last.setdefault(name, deque(maxlen=5))
        last.append(reading_us)
        usual_us = sorted(last)[len(last) // 2]  # a single reading may be lucky
        fastest_us = self.fastest[name] = min(usual_us, self.fastest.get(name, usual_us))
        return max(0.0, reading_us / fastest_us - 1) / calm

    def lose(self, seconds: float) -> None:
        """Book time that was of no use."""
        self._lost_s += seconds

    def has_patience(self) -> bool:
        """Whether more time may be lost, in all and since ``renew``."""
        most_s = min(GRACE_S + self._patience * (time.perf_counter() - self._born), self._lost_before_s + MOST_LOST_S)
        return self._lost_s < most_s

    def renew(self) -> None:
        """Begin another visit: what was lost before does not count towards ``MOST_LOST_S``."""
        self._lost_before_s = self._lost_s

    def await_calm(self) -> None:
        """Wait for a calm moment, on whichever core it comes first, while there is patience."""
        while self.has_patience():
            self.await_pulse()
            if self.reach() <= 1:
                return
            time.sleep(POLL_S)
            self.lose(POLL_S)

    def await_pulse(self) -> bool:
        """Wait for a calm pulse while there is patience; whether this thread is on another core then."""
        last = came = time.perf_counter()
        has_moved = False
        while self.pulse() > 1 and self.has_patience():
            now = time.perf_counter()
            self.lose(now - last)
            last = now
            if self._cores and now - came > LINGER_S:
                self._cores.rotate(-1)
                os.sched_setaffinity(0, {self._cores[0]})
                came, has_moved = now, True
        return has_moved


def _loop_us() -> float:
    """The middle of three short loops."""
    readings = []
    for _ in range(3):
        started, total = time.perf_counter_ns(), 0
        for step in range(PULSE_STEPS):
            total += step
        readings.append((time.perf_counter_ns() - started) / 1e3)
    return sorted(readings)[1]


def cores() -> list[int]:
    """Those that threads can be bound to, if there is a choice; none where the system does not bind threads."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    return allowed if len(allowed) > 1 else []


def listeners() -> list[ThreadPoolExecutor]:
    """A thread for each core, bound to it."""
    return [ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {core})) for core in cores()]


def own_cache_bytes() -> int:
    """Of the last level that a core does not share; a mebibyte where the system does not say."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 1 << 20


class Subject:
    """A file with its session and inputs, and what its runs took."""

    def __init__(self, file: str, plan: dict[str, Any]) -> None:
        started = time.perf_counter()
        self.session = open_session(file, plan["threads"])
        self.load_ms = (time.perf_counter() - started) * 1e3
        self.feed = random_feed(self.session, plan["batch"], plan["seed"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.rounds_us: list[list[float]] = []

    def run_us(self) -> float:
        """Microseconds of one inference."""
        started = time.perf_counter_ns()
        self.session.run(self.names, self.feed)
        return (time.perf_counter_ns() - started) / 1e3

    def warm_up(self, ms: float, fewest: int = WARM_UP_RUNS) -> None:
        """Runs that do not count."""
        elapsed_ms, runs = 0.0, 0
        while runs < fewest or elapsed_ms < ms:
            elapsed_ms += self.run_us() / 1e3
            runs += 1

    def window_us(self, window_ms: float, fewest: int, senses: Senses) -> tuple[list[float], float]:
        """Single runs of a visit of ``window_ms``, at least ``fewest``, and the unrest beside them.

        The caches settle first. Then runs are made until the calm ones fill the rest of the window. Where patience ends
        before that, those that were calm count if they are enough, and all of them otherwise.
        """
        while True:
            runs, unrest = self._visit(window_ms, fewest, senses)
            if unrest <= 1 or not senses.has_patience():
                return runs.us, unrest
            senses.lose(runs.ms / 1e3)

    def _visit(self, window_ms: float, fewest: int, senses: Senses) -> tuple["Runs", float]:
        calm, every = Runs(), Runs()
        senses.await_calm()
        self.warm_up(SETTLING_SHARE * window_ms, 1)
        window_ms *= 1 - SETTLING_SHARE
        before = senses.pulse()
        while not (calm.fill(window_ms, fewest) or (every.fill(window_ms, fewest) and not senses.has_patience())):
            runs_us, ms = self._chunk()
            after = senses.pulse()
            unrest, before = max(before, after), after
            every.add(runs_us, ms, unrest)
            if unrest <= 1:
                calm.add(runs_us, ms, unrest)
            else:
                senses.lose(ms / 1e3)
                if senses.await_pulse():
                    self.warm_up(0.0, MOVING_RUNS)
                before = senses.pulse()
        kept = calm if len(calm.us) >= fewest else every
        return kept, max(float(np.median(kept.unrest)), senses.reach())

    def _chunk(self) -> tuple[list[float], float]:
        """Microseconds of each of the runs of a millisecond, and the milliseconds of all."""
        runs_us, ms = [], 0.0
        while not ms or ms < CHUNK_MS:
            runs_us.append(self.run_us())
            ms += runs_us[-1] / 1e3
        return runs_us, ms


class Runs:
    """Microseconds of single runs, and the unrest beside each chunk of them."""

    def __init__(self) -> None:
        self.us: list[float] = []
        self.unrest: list[float] = []
        self.ms = 0.0

    def add(self, us: list[float], ms: float, unrest: float) -> None:
        """Count a chunk that took ``ms``."""
        self.us += us
        self.ms += ms
        self.unrest.append(unrest)

    def fill(self, window_ms: float, fewest: int) -> bool:
        """Whether they are a whole window, or so slow that fewer have to do."""
        is_enough = len(self.us) >= fewest or self.ms >= SLOW_WINDOWS * window_ms
        return bool(self.us) and self.ms >= window_ms and is_enough


def time_files(plan: dict[str, Any], emit: Emit) -> None:
    """Time ``plan["files"]`` round-robin; a file that cannot run is reported and left out."""
    subjects = {}
    for index, file in enumerate(plan["files"]):
        emit("stage", file=index)
        try:
            subjects[index] = Subject(file, plan)
            subjects[index].warm_up(plan["warm_up_ms"])
        except Exception as error:  # whatever the runtime raises is the answer for this file
            subjects.pop(index, None)
            emit("error", file=index, message=str(error))
    calmness = _rounds(subjects, plan, emit) if subjects else {}
    for index, subject in subjects.items():
        emit("times", file=index, load_ms=subject.load_ms, rounds_us=subject.rounds_us)
    emit("calmness", **calmness)


def _rounds(subjects: dict[int, Subject], plan: dict[str, Any], emit: Emit) -> dict[str, list[float]]:
    rng = np.random.default_rng(plan["seed"])
    matrix, senses = reference_matrix(plan["seed"]), senses_of(plan)
    calmness: dict[str, list[float]] = {}

    def note(**readings: float) -> None:
        for name, value in readings.items():
            calmness.setdefault(name, []).append(value)

    note(**reference_ms(matrix, senses))
    first = started = clocks_ms()
    for _ in range(plan["rounds"]):
        unrest = []
        for index in rng.permutation(list(subjects)).tolist():
            subject = subjects[index]
            if not subject.rounds_us:
                emit("stage", file=index)  # whose fault it is if the process dies here
            senses.renew()
            runs_us, beside = subject.window_us(plan["window_ms"], FEWEST_RUNS, senses)
            subject.rounds_us.append(runs_us)
            unrest.append(beside)
        wall_ms, cpu_ms, stolen_ms, others_ms = (now - then for now, then in zip(clocks_ms(), started, strict=True))
        # With more threads the main thread waits for the others, which is no sign of disturbance.
        waited_ms = wall_ms - cpu_ms if plan["threads"] == 1 else 0.0
        note(round_ms=wall_ms, waited_ms=waited_ms, stolen_ms=stolen_ms, others_ms=others_ms, unrest=max(unrest))
        note(**reference_ms(matrix, senses))
        started = clocks_ms()
        if started[0] - first[0] > plan["time_limit_s"] * 1e3:
            break
    emit("calm", fastest=senses.fastest)
    return calmness


def reference_matrix(seed: int) -> np.ndarray[Any, Any]:
    """What the reference multiplies with itself."""
    matrix = np.random.default_rng(seed).standard_normal((REFERENCE_WIDTH, REFERENCE_WIDTH)).astype(np.float32)
    np.matmul(matrix, matrix)  # the first call allocates
    return matrix


def senses_of(plan: dict[str, Any]) -> Senses:
    """As the plan says what earlier processes saw, and how much patience there is."""
    return Senses(plan.get("fastest"), plan.get("patience", PATIENCE), plan["threads"])


def wake(seed: int) -> None:
    """Work until the processor runs as fast as it goes on, which the first file of a process would pay for."""
    matrix, ended = reference_matrix(seed), time.perf_counter() + WAKE_S
    while time.perf_counter() < ended:
        np.matmul(matrix, matrix)


def reference_ms(matrix: np.ndarray[Any, Any], senses: Senses) -> dict[str, float]:
    """Medians of a fixed matrix product between calm pulses: by the clock, and of the processor's time alone.

    Where patience ends before enough of its runs were calm, all of them count.
    """
    calm: list[tuple[float, float]] = []
    every: list[tuple[float, float]] = []
    senses.await_pulse()
    before = senses.pulse()
    while len(calm) < REFERENCE_REPEATS and (len(every) < REFERENCE_REPEATS or senses.has_patience()):
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        np.matmul(matrix, matrix)
        every.append(((time.perf_counter() - wall_s) * 1e3, (time.thread_time() - cpu_s) * 1e3))
        after = senses.pulse()
        if max(before, after) <= 1:
            calm.append(every[-1])
            before = after
        else:
            senses.await_pulse()
            before = senses.pulse()
    wall, cpu = np.median(calm if len(calm) >= FEWEST_RUNS else every, axis=0).tolist()
    return {"reference_ms": wall, "reference_cpu_ms": cpu}


def clocks_ms() -> tuple[float, float, float, float]:
    """Four clocks in milliseconds: the wall's, this thread's, what the hypervisor took, what other programs used."""
    stolen, others = elsewhere_ms()
    return time.perf_counter() * 1e3, time.thread_time() * 1e3, stolen, others


def elsewhere_ms() -> tuple[float, float]:
    """Processor time since boot, over all cores, that went to other guests and to other programs of this one.

    Zeros where nobody counts them. The second is of this process's making to within the 10 ms of the kernel's count.
    """
    try:
        with Path("/proc/stat").open() as lines:
            user, nice, system, _idle, _wait, irq, soft_irq, stolen = map(float, lines.readline().split()[1:9])
    except (OSError, ValueError):
        return 0.0, 0.0
    tick_ms = 1e3 / os.sysconf("SC_CLK_TCK")
    used = (user + nice + system + irq + soft_irq) * tick_ms
    return stolen * tick_ms, used - time.process_time() * 1e3


def time_kernels(plan: dict[str, Any], emit: Emit) -> None:
    """Time each of ``plan["files"]`` as a whole and kernel by kernel; one that cannot run is reported and left out."""
    wake(plan["seed"])
    senses = senses_of(plan)
    for index, file in enumerate(plan["files"]):
        emit("stage", file=index)
        try:
            emit("kernels", file=index, **timed_kernels(file, plan, senses))
        except Exception as error:  # whatever the runtime raises is the answer for this file
            emit("error", file=index, message=str(error))
    emit("calm", fastest=senses.fastest)


def timed_kernels(file: str, plan: dict[str, Any], senses: Senses) -> dict[str, Any]:
    """Microseconds of the file, of each kernel of its optimized graph, and that graph.

    The profile makes every kernel slower, so the whole is timed without: half of its windows before, half after.
    """
    senses.renew()
    subject = Subject(file, plan)
    matrix = reference_matrix(plan["seed"])
    before = reference_ms(matrix, senses)
    subject.warm_up(plan["warm_up_ms"])
    started = clocks_ms()
    half = plan["rounds"] // 2
    windows = [subject.window_us(plan["window_ms"], FEWEST_RUNS, senses) for _ in range(half)]
    seen = profiled(file, plan, senses)
    while seen["unrest"] > 1 and senses.has_patience():
        senses.lose(plan["profile_ms"] / 1e3)
        seen = profiled(file, plan, senses)
    windows += [subject.window_us(plan["window_ms"], FEWEST_RUNS, senses) for _ in range(plan["rounds"] - half)]
    wall_ms, _, stolen_ms, others_ms = (now - then for now, then in zip(clocks_ms(), started, strict=True))
    after = reference_ms(matrix, senses)
    calm = [window for window in windows if window[1] <= 1]
    kept = calm if len(calm) >= half else windows
    return {
        **seen,
        "reference_ms": (before["reference_ms"] + after["reference_ms"]) / 2,
        "rounds_us": [float(np.quantile(runs, LOW_QUANTILE)) for runs, _ in kept],
        "disturbed": max(stolen_ms, others_ms, 0.0) / wall_ms,  # processor time that went elsewhere
        "unrest": max(seen["unrest"], *(unrest for _, unrest in kept)),
        "fastest": senses.fastest,
    }


def profiled(file: str, plan: dict[str, Any], senses: Senses) -> dict[str, Any]:
    """The kernels of a file in the order in which they run, and the optimized graph, compressed, in base64.

    A kernel has its ``name``, ``op``, types and shapes of ``inputs`` (weights that were packed are missing) and
    ``outputs``, and its mean time ``us`` over the calm ones among the runs of ``plan["profile_ms"]``.
    """
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        session = open_session(file, plan["threads"], folder)
        feed = random_feed(session, plan["batch"], plan["seed"])
        unrest, settled = _profiled_runs(session, feed, plan["profile_ms"], senses)
        after = senses.reach() if plan["profile_ms"] else 0.0
        events = json.loads(Path(session.end_profiling()).read_text())
        graph = zlib.compress(Path(folder, GRAPH).read_bytes(), 6)
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    runs = len(unrest)
    per_run = len(kernels) // runs
    calm = [run for run in settled if unrest[run] <= 1]
    kept = calm if len(calm) >= FEWEST_RUNS else settled
    return {
        "kernels": [
            _kernel(kernels[place], [kernels[run * per_run + place] for run in kept]) for place in range(per_run)
        ],
        "graph": base64.b64encode(graph).decode(),
        "runs": runs,
        "unrest": max(float(np.median([unrest[run] for run in kept])), after),
    }


def _profiled_runs(
    session: ort.InferenceSession, feed: Feed, profile_ms: float, senses: Senses
) -> tuple[list[float], list[int]]:
    """Run as in a window; the unrest beside each run, and which runs count: not those in which caches settle."""
    unrest: list[float] = []
    settled: list[int] = []
    calm_ms = all_ms = 0.0
    calm_runs, first = 0, SETTLING_RUNS if profile_ms else 0  # the first run that may count
    settling_ms = SETTLING_SHARE * profile_ms
    if profile_ms:
        senses.await_calm()
    before = senses.pulse()
    while not settled or (calm_ms < profile_ms - settling_ms and calm_runs < MOST_PROFILED_RUNS):
        started, runs = time.perf_counter(), 0
        while runs == 0 or (profile_ms and (time.perf_counter() - started) * 1e3 < CHUNK_MS):
            session.run(None, feed)
            runs += 1
        elapsed_ms, after = (time.perf_counter() - started) * 1e3, senses.pulse()
        all_ms += elapsed_ms
        here = range(len(unrest), len(unrest) + runs)
        unrest += [max(before, after)] * runs
        before = after
        if all_ms > settling_ms and here.start >= first:
            settled += here
            if unrest[-1] <= 1:
                calm_ms += elapsed_ms
                calm_runs += runs
        if unrest[-1] > 1 and profile_ms:
            senses.lose(elapsed_ms / 1e3)
            if senses.await_pulse():
                first = len(unrest) + MOVING_RUNS
            before = senses.pulse()
        if settled and all_ms >= profile_ms and not senses.has_patience():
            break
    return unrest, settled


def _kernel(event: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    arguments = event["args"]
    return {
        "name": event["name"].removesuffix("_kernel_time"),
        "op": arguments["op_name"],
        "inputs": [list(*each.items()) for each in arguments["input_type_shape"]],
        "outputs": [list(*each.items()) for each in arguments["output_type_shape"]],
        "us": _usual_us([each["dur"] for each in events]),
    }


def _usual_us(runs_us: list[int]) -> float:
    """The mean of the faster half, for others were interrupted; the runtime cuts microseconds off to whole ones."""
    kept = sorted(runs_us)[: max(1, round(len(runs_us) * USUAL_SHARE))]
    return sum(kept) / len(kept) + 0.5


def watch_memory(plan: dict[str, Any], emit: Emit) -> None:
    """Peak resident growth from after the imports to after a few runs of ``plan["files"][0]``."""
    emit("stage", file=0)
    try:
        can_reset = _reset_peak()
        before = _resident_bytes("VmRSS") if can_reset else _peak_bytes()
        session = open_session(plan["files"][0], plan["threads"])
        feed = random_feed(session, plan["batch"], plan["seed"])
        for _ in range(RAM_RUNS):
            session.run(None, feed)
        after = _resident_bytes("VmHWM") if can_reset else _peak_bytes()
    except Exception as error:  # whatever the runtime raises is the answer for this file
        emit("error", file=0, message=str(error))
        return
    emit("ram", file=0, growth_bytes=max(0, after - before))


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # 5 resets VmHWM, see proc_pid_clear_refs(5)
    except OSError:
        return False
    return True


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def work_through(plan: dict[str, Any], emit: Emit) -> None:
    """Measure the models of a kit into ``results.jsonl`` beside the plan, the device's facts first.

    A model that the runtime refuses, that kills its process or takes too long has an error for a result. What was
    stopped from outside is measured again next time.
    """
    folder = Path(plan["folder"])
    done = _begun_results(folder / RESULTS, {**device_facts(), "threads": plan["threads"]})
    ended = time.monotonic() + plan["time_s"]
    left = [model for model in plan["models"] if model["name"] not in done]
    fastest: dict[str, float] = {}  # each process tells the next what a calm moment is
    with (folder / RESULTS).open("a") as results:
        write = line_writer(results)
        for place, model in enumerate(left):
            if time.monotonic() > ended:
                emit("stopped", why="the time of the plan is over; start again to go on", models_left=len(left) - place)
                return
            files = [str(folder / model["file"])]
            kind, content = _isolated({**plan, "mode": "kernels", "files": files, "fastest": fastest})
            fastest = content.pop("fastest", fastest)
            about = {key: model[key] for key in ("name", "family", "precision")}
            write(kind, **about, at=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()), **content)
            ms = round(float(np.median(content["rounds_us"])) / 1e3, 3) if kind == "kernels" else content["message"]
            emit("done", model=model["name"], of=len(left), number=place + 1, ms=ms)
    emit("finished", send_back=str(folder / RESULTS))


def _begun_results(file: Path, device: dict[str, Any]) -> set[str]:
    """The names of the models in ``file``, which begins with ``device`` when this returns."""
    if file.exists():
        content = file.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)  # what follows was cut off by the end of the process
        whole = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]
        lines = [_result_line(file, number, line) for number, line in enumerate(whole, 1)]
        if lines:
            if any(lines[0].get(key) != device[key] for key in ("cpuinfo", "architecture", "onnxruntime", "threads")):
                raise SystemExit(f"{file} must be of this device, runtime and threads; move it away to begin anew")
            return {line["name"] for line in lines[1:]}
    with file.open("w") as results:
        line_writer(results)("device", **device)
    return set()


def _result_line(file: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line: Any = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("kind" if number == 1 else "name"), str):
        raise SystemExit(
            f"{file}, line {number}: must be as this script wrote it, got {text[:80]!r}; take a model's line out to "
            "measure it again, or move the file away to begin anew"
        )
    return line


def _isolated(plan: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Kind and content of the line that a process of its own reports of the plan's only file."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        plan_file = Path(folder, "plan.json")
        plan_file.write_text(json.dumps(plan))
        try:
            # The interpreter and this file again.
            child = subprocess.run(  # noqa: S603
                [sys.executable, __file__, str(plan_file)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=plan["timeout_s"], check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "error", {"message": f"took longer than {plan['timeout_s']:g} s"}
    for text in child.stdout.splitlines():
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:  # the process died while it wrote the line
            break
        if line["kind"] in {"kernels", "error"}:
            return line.pop("kind"), {key: value for key, value in line.items() if key != "file"}
    return "error", {"message": f"the process died with code {child.returncode}"}


def device_facts() -> dict[str, Any]:
    """What decides which kernels run here: the processor in the system's own words, cores, memory, runtime."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    proc = Path("/proc/cpuinfo")
    if proc.exists():  # one processor's paragraph, and what follows the last one, where ARM names the device
        paragraphs = proc.read_text(errors="replace").strip().split("\n\n")
        cpuinfo = "\n".join(dict.fromkeys([paragraphs[0], paragraphs[-1]]))
    else:
        command = ["/usr/sbin/sysctl", "hw.optional", "machdep.cpu"]
        cpuinfo = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - fixed
    varying = ("cpu mhz", "bogomips", "processor", "apicid", "initial apicid", "core id")
    lines = [line for line in cpuinfo.splitlines() if line.partition(":")[0].strip().lower() not in varying]
    return {
        "cpuinfo": "\n".join(lines),
        "architecture": platform.machine(),
        "cores": cores,
        "ram_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": f"{platform.system()} {platform.release()}",
        "onnxruntime": ort.__version__,
    }


def line_writer(stream: TextIO) -> Emit:
    """Writes one JSON object a line, at once, so that nothing is lost if the process dies."""

    def emit(kind: str, **content: object) -> None:
        stream.write(json.dumps({"kind": kind, **content}) + "\n")
        stream.flush()

    return emit


if __name__ == "__main__":
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print on stdout goes to stderr: stdout holds results only
    plan_of_call = Path(sys.argv[1])
    main({"folder": str(plan_of_call.parent), **json.loads(plan_of_call.read_text())}, line_writer(results))
