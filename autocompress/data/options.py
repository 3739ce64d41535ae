"""What a user may say about the data besides where it is."""

from collections.abc import Callable
from enum import StrEnum

from pydantic import Field

from autocompress.facts import Facts
from autocompress.task import Augment

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


class Metric(StrEnum):
    """How classification is judged."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"  # mean recall over classes


class DataOptions(Facts):
    """What overrides the data's own facts; None leaves the decision to the data."""

    mean: tuple[float, ...] | None = Field(None, description="per channel, of pixels scaled to 0..1")
    std: tuple[float, ...] | None = Field(None, description="per channel, of pixels scaled to 0..1")
    input_size: int | None = Field(None, ge=1, description="height and width of the model's input, in pixels")
    skip_bad_images: bool = Field(False, description="leave out images that cannot be read, and say how many")
    augment: Augment | None = Field(None, description="random changes of training images")
    seed: int = Field(0, ge=0, description="of the cut of missing splits")
    metric: Metric = Metric.ACCURACY
