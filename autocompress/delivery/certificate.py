"""What is promised of one file, with everything that a stranger needs to check it."""

import hashlib

from pydantic import Field

from autocompress.budget import BudgetRow
from autocompress.facts import Facts
from autocompress.measurement import Accuracy, Latency, ModelFacts
from autocompress.target import Machine, Target
from autocompress.task import Layout, Preprocess

SCHEMA = 1


class FileIdentity(Facts):
    """Which bytes are meant."""

    name: str
    sha256: str
    size_bytes: int


class InputFacts(Facts):
    """How to feed the file, complete: a stranger needs nothing else. All sizes are (height, width) in pixels."""

    name: str
    dtype: str
    layout: str = Field(description="NCHW for images, else 'as stored'")
    shape: tuple[int, ...] = Field(description="static, batch first")
    size: tuple[int, ...] | None = Field(None, description="(height, width) of images")
    resize: str = Field("none", description="what was done to stored images to get that size")
    divide_by: float | None = Field(None, description="first: uint8 pixels are divided by this")
    mean: tuple[float, ...] | None = Field(None, description="then: subtracted, per channel")
    std: tuple[float, ...] | None = Field(None, description="then: divided by, per channel")
    recipe: str = Field(description="the same in words")

    def preprocess(self) -> Preprocess:
        """The same facts as the rest of the package has them."""
        return Preprocess(
            layout=Layout.IMAGE if self.layout == "NCHW" else Layout.AS_STORED,
            shape=self.shape[1:],
            dtype=self.dtype,
            mean=self.mean,
            std=self.std,
            resize=self.resize,
        )


class OutputFacts(Facts):
    """What comes out."""

    name: str
    class_names: tuple[str, ...] = ()
    meaning: str = "one score per class; the largest wins"


class Certificate(Facts):
    """MET or NOT MET, row by row, for the file named in it.

    Latency and RAM were measured, size, MACs and parameters counted, accuracies evaluated on the file in the runtime
    over whole splits; ``test`` was read once, after every choice had been made.
    """

    schema_version: int = Field(SCHEMA, ge=1, le=SCHEMA)
    met: bool
    budget: tuple[BudgetRow, ...]
    file: FileIdentity
    facts: ModelFacts
    baseline: ModelFacts
    latency: Latency
    metric_name: str
    accuracy_val: Accuracy
    accuracy_test: Accuracy | None
    more_metrics: dict[str, float] = Field(default_factory=dict, description="of the test split")
    input: InputFacts
    output: OutputFacts
    data: str
    target: Target
    machine: Machine
    versions: dict[str, str]
    recipe_digest: str
    measured_at: str


def identity_of(name: str, content: bytes) -> FileIdentity:
    """Name, hash and length of a file."""
    return FileIdentity(name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def input_facts(preprocess: Preprocess, name: str, batch: int) -> InputFacts:
    """The input part of a certificate."""
    image = preprocess.layout is Layout.IMAGE
    return InputFacts(
        name=name,
        dtype=preprocess.dtype,
        layout="NCHW" if image else "as stored",
        shape=(batch, *preprocess.shape),
        size=preprocess.shape[1:] if image else None,
        resize=preprocess.resize,
        divide_by=255.0 if image else None,
        mean=preprocess.mean,
        std=preprocess.std,
        recipe=_in_words(preprocess),
    )


def _in_words(preprocess: Preprocess) -> str:
    if preprocess.layout is Layout.AS_STORED:
        return f"feed the stored array as {preprocess.dtype}"
    steps = ["take uint8 pixels [height, width, channels]"]
    if preprocess.resize != "none":
        steps.append(f"resized: {preprocess.resize}")
    steps.append("in float32: divide by 255")
    if preprocess.mean is not None:
        steps.append("subtract mean per channel")
    if preprocess.std is not None:
        steps.append("divide by std per channel")
    return ", ".join([*steps, "move channels first"])
