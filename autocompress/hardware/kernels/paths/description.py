"""What is said of a kernel, and the words that all kinds of kernels say it in."""

from dataclasses import dataclass
from math import log2

LEAST = 1e-3  # whose logarithm stands for that of nothing
BLOCK = 16  # channels of a vector; with 8 every other remainder says the same


@dataclass(frozen=True)
class Description:
    """``path`` names the code; ``terms`` are amounts of work, none negative; ``features`` describe the shape.

    A path's terms and features are always the same, in the same order. A term stands at the same place in all paths
    where it means the same, for rates of related paths are fitted together: the first is the start of the kernel.
    ``read_bytes`` are those of its constants, which may have left the caches since it ran last.
    """

    path: str
    terms: tuple[float, ...]
    features: tuple[float, ...]
    read_bytes: float = 0.0

    @property
    def numbers(self) -> tuple[float, ...]:
        """Terms, read bytes and features in one row."""
        return (*self.terms, self.read_bytes, *self.features)


def log(value: float) -> float:
    """The binary logarithm, finite also of nothing."""
    return log2(max(LEAST, value))


def fill(width: int, block: int) -> float:
    """The share of whole blocks that ``width`` fills."""
    return width / (max(1, -(-width // block)) * block)
