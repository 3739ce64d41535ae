"""What a reader of one form of data gives: arrays as they lay."""

from collections.abc import Iterator
from dataclasses import dataclass

from autocompress.task import Split


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Splits that are there, their class names if known, and what was decided while reading."""

    name: str
    train: Split
    val: Split | None = None
    test: Split | None = None
    class_names: tuple[str, ...] = ()
    resize: str = "none"
    notes: tuple[str, ...] = ()

    def present(self) -> Iterator[tuple[str, Split]]:
        """The splits that are there, with their names; train first."""
        for name, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if split is not None:
                yield name, split
