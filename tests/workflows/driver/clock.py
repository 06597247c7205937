"""The time of a pretended cloud: the machine's own, or one that passes as quickly as the engine can count.

In: what is to happen when, and waits. Out: the same for both, so that a workflow cannot tell.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        """Whether `until` came true before `timeout` seconds were over."""
        ...


class VirtualClock:
    """Time passes only while somebody waits; 300 days take as long as their events."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), event))

    def sleep(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        deadline = self._now + timeout
        while not until():
            if not self._events or self._events[0][0] > deadline:
                self._now = deadline
                return False
            at, _, event = heapq.heappop(self._events)
            self._now = max(self._now, at)
            event()
        return True


class RealClock:
    """The machine's time, `speed` times as quick for whoever waits."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._began = time.time()
        self._began_monotonic = time.monotonic()
        self._changed = threading.Condition()

    def now(self) -> float:
        return self._began + (time.monotonic() - self._began_monotonic) * self.speed

    def notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.speed)

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(until, timeout / self.speed)
