"""Jobs on a GPU: where their results go, and whether they are finite, which the host looks at without ever waiting."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bdflow_rt.engines.engine import check_like, check_names
from bdflow_rt.engines.gpu import CudaDevice, Stamp
from bdflow_rt.errors import NonFiniteOutputError


class GpuJob:
    """Work on a stream, with the stamp behind it; see `Job`."""

    def __init__(self, outputs: dict[str, Any], stamp: Stamp, finish: Callable[[GpuJob], None]) -> None:
        self.outputs = outputs
        self.stamp = stamp
        self.error: NonFiniteOutputError | None = None
        self._finish = finish

    def done(self) -> bool:
        return self.stamp.is_reached()

    def wait(self) -> dict[str, Any]:
        self._finish(self)
        if self.error is not None:
            raise self.error
        return self.outputs


class Means:
    """The means of one engine's jobs that nobody has looked at yet.

    A mean that is not finite belongs to its job, which raises it when it is waited for. Where the job is gone, the next
    look raises it.

    Args:
        check: raises NonFiniteOutputError for a mean that is not finite.
    """

    def __init__(self, check: Callable[[float], None]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._pending: list[tuple[Stamp, Callable[[], float], weakref.ref[GpuJob], Any]] = []

    def note(self, job: GpuJob, read: Callable[[], float], *, arrays: Any) -> GpuJob:
        """Keep how a job's mean is read once its stamp is reached, and until then the arrays that it works on.

        Their owner may let them go before, and their library would give the memory to other work on another stream.
        """
        self._pending.append((job.stamp, read, weakref.ref(job), arrays))
        return job

    def look(self, *, wait: bool = False) -> None:
        """Look at the means that are there, or at all of them.

        Raises:
            NonFiniteOutputError: a mean is not finite, and its job is gone.
        """
        with self._lock:
            while self._pending:
                stamp = self._pending[0][0]
                if wait:
                    stamp.wait()
                elif not stamp.is_reached():
                    return
                self._take(0)

    def finish(self, job: GpuJob) -> None:
        """Wait for a job, and look at its mean unless somebody has."""
        job.stamp.wait()
        with self._lock:
            for index, (stamp, *_) in enumerate(self._pending):
                if stamp is job.stamp:
                    self._take(index)
                    return

    def _take(self, index: int) -> None:
        _, read, owner, _ = self._pending.pop(index)
        job = owner()
        try:
            self._check(read())
        except NonFiniteOutputError as error:
            if job is None:
                raise
            job.error = error


def results_on(
    gpu: CudaDevice,
    tensors: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
    out: Mapping[str, Any] | None,
    *,
    leader: Any,
    stream: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays that a job on a GPU writes to, and CuPy's views of them.

    Args:
        gpu: where they are.
        tensors: shape and dtype of each output.
        out: the caller's; what is not there is made, of the library of `leader`.
        leader: the first input.
        stream: on which they are used.

    Raises:
        ArgumentError, DTypeError, ShapeError, LayoutError, DeviceMismatchError: one of `out` does not suit.
    """
    given = out or {}
    check_names(given, tensors)
    results, views = {}, {}
    for name, (shape, dtype) in tensors.items():
        array = given.get(name)
        results[name] = gpu.empty_like(leader, shape, dtype, stream) if array is None else array
        views[name] = gpu.borrow(results[name], stream, name, writable=True)
        check_like(name, views[name], shape, dtype)
    return results, views
