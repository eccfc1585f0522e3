"""Things that never change: equal where they would be made alike, their own copies, pickled as what makes them."""

from abc import ABC, abstractmethod
from typing import Any, Self


class Value(ABC):
    """An object that its constructor can make again."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Arguments of the constructor."""

    def _identity(self) -> Any:
        """What equal ones have in common."""
        return self._state()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._identity() == other._identity()

    @abstractmethod
    def __hash__(self) -> int: ...

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self._state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
