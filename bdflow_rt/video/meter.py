"""What a stream of frames takes: latency, the time of each stage, and the stage that limits it."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

StageName = Literal["read", "compute", "write"]
STAGES: tuple[StageName, ...] = ("read", "compute", "write")
"""Decoding; conversion and network, by the workers; encoding."""
_SHORTEST_S, _LONGEST_S = 1e-5, 1e4
_STEP = 1.01
"""Latencies are counted in classes one hundredth apart, so that a stream of any length takes the same memory."""
_CLASSES = int(np.ceil(np.log(_LONGEST_S / _SHORTEST_S) / np.log(_STEP))) + 1
_WINDOW_S = 2.0
"""Over which the limiting stage is judged."""


@dataclass(frozen=True)
class StageStats:
    """One stage of a stream.

    Attributes:
        name: "read", "compute" or "write".
        threads: that it has.
        busy_s: seconds that its threads have worked together, without waiting for another stage.
        waiting: frames that wait for it now.
        most_waiting: largest number that has waited.
    """

    name: StageName
    threads: int
    busy_s: float
    waiting: int
    most_waiting: int


@dataclass(frozen=True)
class StreamStats:
    """A stream so far.

    Attributes:
        frames: that were written.
        kept: frames that an interrupted run had written.
        total: frames of the source, as its container states them; None where it does not.
        dropped: frames of live input that were left out because they came faster than they could be taken.
        elapsed_s: seconds since the stream began.
        latency_p50_ms, latency_p95_ms, latency_p99_ms, latency_max_ms: from the source's frame to the end of writing
            it, within 1 %; 0 before the first frame.
        limit: the stage whose threads were busiest in the last two seconds.
        stages: in order.
    """

    frames: int
    kept: int
    total: int | None
    dropped: int
    elapsed_s: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    limit: StageName
    stages: tuple[StageStats, ...]

    @property
    def frames_per_second(self) -> float:
        """Over all of the stream."""
        return self.frames / self.elapsed_s if self.elapsed_s else 0.0


class Meter:
    """Measures a stream; its methods may be called from the threads of all stages.

    Args:
        workers: threads of the compute stage.
        total: frames of the source; None where it is not known.
    """

    def __init__(self, *, workers: int, total: int | None) -> None:
        self.total, self.workers = total, workers
        self._threads: dict[StageName, int] = {"read": 1, "compute": workers, "write": 1}
        self._busy: dict[StageName, float] = dict.fromkeys(STAGES, 0.0)
        self._waiting: dict[StageName, int] = dict.fromkeys(STAGES, 0)
        self._most: dict[StageName, int] = dict.fromkeys(STAGES, 0)
        self._classes = np.zeros(_CLASSES, np.int64)
        self._longest_s = 0.0
        self._frames = self._dropped = self._kept = 0
        self._lock = threading.Lock()
        self._begun = time.perf_counter()
        self._history: deque[tuple[float, dict[StageName, float]]] = deque([(self._begun, dict(self._busy))])

    def worked(self, stage: StageName, seconds: float) -> None:
        """Count time that a thread of a stage has worked."""
        with self._lock:
            self._busy[stage] += seconds

    def queued(self, stage: StageName, frames: int) -> None:
        """Note how many frames wait for a stage."""
        with self._lock:
            self._waiting[stage] = frames
            self._most[stage] = max(self._most[stage], frames)

    def dropped(self) -> None:
        """Count a frame that is left out."""
        with self._lock:
            self._dropped += 1

    def kept(self) -> None:
        """Count a frame that was there before."""
        with self._lock:
            self._kept += 1

    def finished(self, latency_s: float) -> None:
        """Count a frame that is written."""
        place = np.log(max(latency_s, _SHORTEST_S) / _SHORTEST_S) / np.log(_STEP)
        now = time.perf_counter()
        with self._lock:
            self._frames += 1
            self._classes[min(int(place), _CLASSES - 1)] += 1
            self._longest_s = max(self._longest_s, latency_s)
            if now - self._history[-1][0] > _WINDOW_S / 8:
                self._history.append((now, dict(self._busy)))
                while len(self._history) > 2 and now - self._history[1][0] > _WINDOW_S:
                    self._history.popleft()

    def stats(self) -> StreamStats:
        """What was measured so far."""
        now = time.perf_counter()
        with self._lock:
            _, before = self._history[0]
            shares = {stage: (self._busy[stage] - before[stage]) / self._threads[stage] for stage in STAGES}
            p50, p95, p99 = (self._percentile(share) for share in (0.5, 0.95, 0.99))
            return StreamStats(
                frames=self._frames,
                kept=self._kept,
                total=self.total,
                dropped=self._dropped,
                elapsed_s=now - self._begun,
                latency_p50_ms=p50,
                latency_p95_ms=p95,
                latency_p99_ms=p99,
                latency_max_ms=1000 * self._longest_s,
                limit=max(STAGES, key=lambda stage: shares[stage]),
                stages=tuple(
                    StageStats(stage, self._threads[stage], self._busy[stage], self._waiting[stage], self._most[stage])
                    for stage in STAGES
                ),
            )

    def _percentile(self, share: float) -> float:
        """The latency in milliseconds that a share of the frames did not exceed."""
        if not self._frames:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._classes), np.ceil(share * self._frames)))
        return float(min(1000 * _SHORTEST_S * _STEP ** (place + 1), 1000 * self._longest_s))
