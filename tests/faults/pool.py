"""Plays many runs at the same time: nearly all of their time is waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tests.faults.playing import SCALE, Seen

AT_ONCE = 14


class Playable(Protocol):
    """A cell of the matrix, or a random plan."""

    @property
    def name(self) -> str: ...

    def play(self, folder: Path, *, scale: float = SCALE) -> Seen: ...


P = TypeVar("P", bound=Playable)


class Pool(Generic[P]):
    """Runs that have begun, by name."""

    def __init__(self, executor: ThreadPoolExecutor, folder: Path, scale: float) -> None:
        self._executor = executor
        self._folder = folder
        self._scale = scale
        self._futures: dict[str, Future[Seen]] = {}

    def begin(self, items: Iterable[P]) -> None:
        """Let these be played."""
        for item in items:
            self._futures[item.name] = self._executor.submit(self.again(item))

    def seen(self, item: P) -> Seen:
        """What one showed."""
        return self._futures[item.name].result()

    def wait(self) -> None:
        """Until all have ended, well or not."""
        wait(self._futures.values())

    def again(self, item: P) -> Callable[[], Seen]:
        """What plays one by itself."""
        return lambda: item.play(self._folder, scale=self._scale)


@contextmanager
def pool_of(items: Iterable[P], folder: Path, *, scale: float = SCALE, at_once: int = AT_ONCE) -> Iterator[Pool[P]]:
    """A pool in which *items* are played."""
    with ThreadPoolExecutor(at_once) as executor:
        pool: Pool[P] = Pool(executor, folder, scale)
        pool.begin(items)
        yield pool
