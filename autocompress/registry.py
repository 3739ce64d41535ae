"""Things found by name; a wrong name is answered with the near ones."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from autocompress.errors import InputError, near

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, in the order in which they were registered."""

    def __init__(self, kind: str, error: type[InputError]) -> None:
        self.kind = kind
        self._error = error
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that files its subject under ``name``; a name can be taken once."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise self._error(
                f"{self.kind} must be one of {', '.join(self._items)}; got {name!r}{near(name, self._items)}"
            )
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def items(self) -> Iterator[tuple[str, T]]:
        """Name and thing, in order of registration."""
        return iter(self._items.items())
