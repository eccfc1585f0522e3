"""Immutable objects: equal if made from the same arguments, copied as themselves, pickled as those arguments."""

from abc import ABC, abstractmethod
from typing import Any, Self


class Value(ABC):
    """An immutable object that its constructor can make again."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""

    def identity(self) -> Any:
        """Return what equal objects have in common."""
        return self._state()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self.identity() == other.identity()

    def _with(self, **changes: Any) -> Self:
        """Return the object that is made from the same arguments, except these."""
        return type(self)(**(self._state() | changes))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self._state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
