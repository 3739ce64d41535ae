"""Where a model comes from; plain facts that a worker on another machine can build from."""

from pydantic import Field

from autocompress.facts import Facts


class ModelSource(Facts):
    """A model by name with everything needed to build it again.

    ``spec`` is a timm name or ``path/file.py:factory``. ``in_shape`` is one input without batch; a timm model takes its
    channels (and, where its size is fixed, its image size) from it.
    """

    spec: str
    pretrained: bool = False
    checkpoint: str | None = None
    in_shape: tuple[int, ...] = Field(min_length=1)
    n_outputs: int = Field(ge=1)
