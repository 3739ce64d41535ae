"""Peak RAM of an ONNX file, measured in fresh processes."""

from pathlib import Path

from autocompress.hardware.child import run_runner
from autocompress.target import Target

# The same file peaks at one of two heights, up to 20 % apart (ResNet-18 on Linux: 148 or 169 MB, each about half the
# time; why is not known). Five processes then miss the higher one in 3 % of measurements.
PROCESSES = 5


def measure_peak_ram(file: Path, target: Target, *, processes: int | None = None, timeout_s: float = 120.0) -> int:
    """Bytes by which a process grows at most while it loads the file and runs it three times, the runtime's own aside.

    The highest of so many processes, ``PROCESSES`` by default: a limit on memory is one that no start may exceed.

    Raises:
        MeasurementError: the runtime cannot load or run the file, or the time is over.
    """
    return max(_growth_bytes(file, target, timeout_s) for _ in range(processes or PROCESSES))


def _growth_bytes(file: Path, target: Target, timeout_s: float) -> int:
    lines = run_runner("ram", [file], timeout_s=timeout_s, threads=target.threads, batch=target.batch, seed=0)
    return next(int(line.content["growth_bytes"]) for line in lines if line.kind == "ram")
