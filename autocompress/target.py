"""Where the file will run, and what that machine's kernels want."""

from enum import StrEnum

from pydantic import Field

from autocompress.facts import Facts


class Runtime(StrEnum):
    """Runtimes that a file can be made for."""

    ONNXRUNTIME = "onnxruntime"


class ActivationType(StrEnum):
    """How eight-bit activations are stored."""

    U8 = "uint8"
    S8 = "int8"


class Target(Facts):
    """A runtime with its threads and batch; latency is always that of one inference at this setting."""

    runtime: Runtime = Runtime.ONNXRUNTIME
    threads: int = Field(1, ge=1, le=256, description="intra-op threads of the runtime")
    batch: int = Field(1, ge=1, le=4096, description="samples in one inference; static in the file")


class Machine(Facts):
    """The facts of a processor that change which kernels run, and how fast.

    ``int8_activations``: U8 activations with S8 weights are the usual fast path on x86, S8 on ARM; commands that
    compress take what ``hardware.int8_activations`` measured.
    ``reduce_range``: 7-bit weights, needed on x86 without VNNI, whose U8S8 multiply-add saturates 16-bit sums.
    ``channel_block``: channels of ONNX Runtime's blocked float layout; widths that are multiples of it waste nothing.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    cpu: str
    architecture: str
    isa: tuple[str, ...]
    cores: int = Field(ge=1)
    ram_bytes: int = Field(ge=0)
    os: str
    int8_activations: ActivationType
    reduce_range: bool
    channel_block: int
