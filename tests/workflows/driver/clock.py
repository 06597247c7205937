"""The time of a pretended cloud: the machine's own, or one that passes as quickly as the engine can count.

In: what is to happen when, and waits. Out: the same for both, so that a workflow cannot tell.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        """Whether `until` came true before `timeout` seconds were over."""
        ...

    def together(self, jobs: list[Callable[[], None]]) -> None:
        """Runs the jobs, each in a thread of its own, to their ends."""
        ...


class VirtualClock:
    """Time passes only while somebody waits; 300 days take as long as their events. Threads take turns (`together`)."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._thread = threading.local()
        self._waiting: list[_Turn] = []
        self._back = threading.Semaphore(0)

    def now(self) -> float:
        return self._now

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), event))

    def sleep(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        deadline = self._now + timeout
        if getattr(self._thread, "is_turn", False):
            self._give_back(_Turn(deadline, next(self._order), until))
            return until()
        while not until():
            if not self._events or self._events[0][0] > deadline:
                self._now = deadline
                return False
            at, _, event = heapq.heappop(self._events)
            self._now = max(self._now, at)
            event()
        return True

    def together(self, jobs: list[Callable[[], None]]) -> None:
        """Runs each job in a thread of its own, one at a time: until it waits, or ends. Then it is the turn of the one whose
        wait is over first."""
        alive = len(jobs)

        def run(job: Callable[[], None], first: _Turn) -> None:
            nonlocal alive
            self._thread.is_turn = True
            first.go.acquire()
            try:
                job()
            finally:
                alive -= 1
                self._back.release()

        for job in jobs:
            first = _Turn(self._now, next(self._order), lambda: True)
            self._waiting.append(first)
            threading.Thread(target=run, args=(job, first), daemon=True).start()
        while alive:
            turn = next((turn for turn in self._waiting if turn.until()), None) or min(self._waiting)
            if not turn.until() and self._events and self._events[0][0] <= turn.deadline:
                at, _, event = heapq.heappop(self._events)
                self._now = max(self._now, at)
                event()
                continue
            self._now = self._now if turn.until() else max(self._now, turn.deadline)
            self._waiting.remove(turn)
            turn.go.release()
            self._back.acquire()

    def _give_back(self, turn: "_Turn") -> None:
        self._waiting.append(turn)
        self._back.release()
        turn.go.acquire()


@dataclass(order=True)
class _Turn:
    """A thread that waits for its turn."""

    deadline: float
    order: int
    until: Callable[[], bool] = field(compare=False)
    go: threading.Semaphore = field(compare=False, default_factory=lambda: threading.Semaphore(0))


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

    def together(self, jobs: list[Callable[[], None]]) -> None:
        threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
