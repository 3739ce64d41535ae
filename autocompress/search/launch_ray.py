"""Jobs on Ray: an embedded cluster on this machine, or one that is already there. The only file that knows Ray."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cloudpickle
import ray

from autocompress.errors import InputError
from autocompress.search.launcher import Done, Job, perform, warm_up
from autocompress.trial import Bench

POLL_S = 1.0
READY_S = 60.0  # that workers may take to start
ANSWER_S = 10.0  # within which a cluster's port answers


class RayLauncher:
    """Each job is one task that holds as many CPUs as it has threads; lost nodes' tasks run again elsewhere.

    ``address`` None starts a cluster of ``workers`` CPUs on this machine that ends with this object; otherwise the
    cluster at ``address`` is joined and all its CPUs are used.

    Raises:
        InputError: no cluster at ``address``, or one that cannot be joined.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._owned = not (address is None and ray.is_initialized())
        if self._owned:
            _connect(workers, address)
        # Two values, so that what a rung leaves is handed on without coming here.
        self._work = ray.remote(max_retries=3, num_returns=2)(perform)
        self._starting = [ray.remote(warm_up).remote() for _ in range(self.slots())]
        self._bench: tuple[Bench, Any] | None = None
        self._flying: dict[Any, tuple[int, Any]] = {}

    def slots(self) -> int:
        """CPUs of the cluster now; nodes may come and go."""
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def ready(self) -> None:
        """Wait until each slot has loaded what jobs need, or a minute: CPUs of a shared cluster may be taken."""
        until_s = time.monotonic() + READY_S
        while self._starting and time.monotonic() < until_s:
            _, self._starting = ray.wait(self._starting, num_returns=len(self._starting), timeout=POLL_S)
        self._starting = []

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Each job's end. A task whose workers die again and again ends in an error."""
        waiting = dict(self._start(bench, job) for job in jobs)
        while waiting:
            yield _next(waiting)

    def submit(self, bench: Bench, job: Job) -> None:
        """Hand the job to the cluster; it begins when as many CPUs are free as it has threads."""
        reference, flying = self._start(bench, job)
        self._flying[reference] = flying

    def next_done(self) -> Done:
        """The end of the job that ends next. Its state stays in the object store."""
        return _next(self._flying)

    def close(self) -> None:
        """Leave the cluster; an embedded one ends."""
        self._bench = None
        self._flying.clear()
        if self._owned:
            ray.shutdown()

    def _start(self, bench: Bench, job: Job) -> tuple[Any, tuple[int, Any]]:
        """The reference of the job's end, with its key and the reference of its state."""
        work = self._work.options(num_cpus=min(job.threads, self._widest()))
        # An argument of its own: a reference within another object would not be replaced by what it stands for.
        done, state = work.remote(self._share(bench), replace(job, state=None), job.state)
        return done, (job.key, state)

    def _share(self, bench: Bench) -> Any:
        """The bench in the object store, put there once; a user's own code travels in it."""
        _let_user_code_travel()
        if self._bench is None or self._bench[0] is not bench:
            self._bench = (bench, ray.put(bench))
        return self._bench[1]

    def _widest(self) -> int:
        """CPUs of the largest node: a job that waits for more would wait for ever."""
        return max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1) or 1


def _connect(workers: int, address: str | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        with _own_sigterm():
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        return
    try:
        _check_port(address)
        with _own_sigterm():
            ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "connect to" not in str(error):  # as Ray says where nothing answers
            raise InputError(f"the Ray cluster at --ray-address {address!r} cannot be joined: {error}") from error
        raise InputError(f"--ray-address must name a running Ray cluster, got {address!r}: {error}") from error


def _check_port(address: str) -> None:
    """Fails where nothing answers at ``host:port``: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """What SIGTERM does stays as the caller has it: Ray's own handler would end the process where it stands."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _let_user_code_travel() -> None:
    """Ray carries its own copy of cloudpickle, with its own list of modules to send by value."""
    for name in cloudpickle.list_registry_pickle_by_value():
        if name in sys.modules:
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])


def _next(waiting: dict[Any, tuple[int, Any]]) -> Done:
    ended: list[Any] = []
    while not ended:  # in short waits, so that an interrupt is seen
        ended, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_S, fetch_local=True)
    key, state = waiting.pop(ended[0])
    try:
        done: Done = ray.get(ended[0])
    except ray.exceptions.RayError as error:
        return Done(key=key, error=f"{type(error).__name__}: {error}")
    return replace(done, state=state)
