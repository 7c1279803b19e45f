"""`Runner`: one model over whole pictures, in exact tiles within a memory limit."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.engine import Engine
from bdflow_rt.engines.select import Selection, open_engine
from bdflow_rt.errors import ClosedError, DirectionError, OutOfMemoryError, ShapeError
from bdflow_rt.fork import check_process
from bdflow_rt.options import Precision, Progress
from bdflow_rt.packet import ZPolicy
from bdflow_rt.picture import UInt8Array, to_grey
from bdflow_rt.runtime.latent import latent_rows
from bdflow_rt.runtime.plan import (
    MIB,
    Span,
    Window,
    bytes_per_lr_pixel,
    halo_of,
    hr_window,
    keep,
    scaled,
    tile_size,
    windows,
)
from bdflow_rt.zoo import Direction, ModelCard

if TYPE_CHECKING:
    from bdflow_rt.runtime.refine import Refiner

MAX_BATCH_PIXELS = 1 << 20
"""HR pixels of a batch; a larger picture alone keeps all cores busy."""
T = TypeVar("T")


class Runner:
    """One model's engines, opened when they are first needed, and its `Refiner`.

    Threads: pictures wait for each other, since each uses all cores, and another one's tiles in between would have the
    engine prepare each tile anew; `close` waits too.

    Args:
        card: of the model.
        selection: backend and device.
        precision: "fp32", "bf16" or "fp16".
        threads: CPU threads; None is all cores.
        memory_limit_mib: working memory of the network; larger pictures are cut into tiles.
    """

    def __init__(
        self,
        card: ModelCard,
        selection: Selection,
        *,
        precision: Precision,
        threads: int | None,
        memory_limit_mib: float,
    ) -> None:
        self.engines: dict[Direction, Engine] = {}
        self._card = card
        self._selection = selection
        self._precision: Precision = precision
        self._threads = threads
        self._memory_limit_mib = memory_limit_mib
        self._refiner: Refiner | None = None
        self._lock = threading.RLock()
        self._process: int | None = None
        """In which it was first used."""
        self._closed = False

    def batch_size(self, direction: Direction, lr_size: tuple[int, int]) -> int:
        """Pictures of (h, w) LR pixels that go through an engine at once: those that fit, as wholes."""
        interface, backend = self._card.interface, self._selection.backend
        pixels = lr_size[0] * lr_size[1]
        fitting = int(self._memory_limit_mib * MIB / (pixels * bytes_per_lr_pixel(interface, backend)))
        most = min(fitting, MAX_BATCH_PIXELS // (pixels * interface.scale**2))
        if most > 1 and BACKENDS[backend].builds_first:
            self._enter()
            with self._lock:
                largest = self._engine(direction).spec.largest
            most = most if largest is None else min(most, largest[0])
        return max(1, most)

    def downscale(
        self,
        pictures: Sequence[UInt8Array],
        *,
        z: ZPolicy,
        grey: Sequence[bool],
        refine: int = 0,
        progress: Progress | None = None,
    ) -> list[tuple[UInt8Array, UInt8Array | None]]:
        """The LR pictures and the boundary levels of HR pictures of one size, as one batch.

        Args:
            pictures: (H, W, 3) uint8 each.
            z: what `upscale` will use, for which the LR pixels are refined.
            grey: of each picture, whether `upscale` will take the mean of the channels.
            refine: steps of gradient descent; 0 is none.
            progress: called with the number of tiles done and in all; again for `refine`.

        Returns:
            Of each (h, w, 3) uint8, and (h, w) uint8 or None for a model without a boundary.

        Raises:
            NonFiniteOutputError, OutOfMemoryError, BackendUnavailableError: an engine failed or does not load.
            ForkedProcessError: this process was forked from one that has used the runner, or its backend.
            ClosedError: the runner was closed.
        """
        self._enter()
        interface, hr_size = self._card.interface, pictures[0].shape[:2]
        self._check_direction("downscale", hr_size)
        size = -(-hr_size[0] // interface.scale), -(-hr_size[1] // interface.scale)
        lr = np.empty((len(pictures), *size, 3), np.uint8)
        boundary = np.empty((len(pictures), *size), np.uint8) if interface.bits else None

        def tile(rows: Span, columns: Span) -> None:
            image = _batch([hr_window(pixels, rows, columns, interface.scale) for pixels in pictures])
            results = self._run("downscale", {"image": image})
            keep(lr, results["lr"], rows, columns)
            if boundary is not None:
                keep(boundary, results["boundary"], rows, columns)

        with self._lock:
            refiner = self._open_refiner() if refine else None  # what it lacks is better said at once
            self._each_tile("downscale", size, tile, progress, batch=len(pictures))
            if refiner is not None:
                self._check_open()  # `progress` may have closed it
                for index, pixels in enumerate(pictures):
                    from bdflow_rt.runtime.refine import Target

                    latent = partial(self._latent, z, size[1]) if z.temperature else None
                    levels = None if boundary is None else boundary[index]
                    target = Target(pixels, levels, grey=grey[index], latent=latent)
                    best = partial(refiner.refine, target, lr[index], steps=refine, progress=progress)
                    lr[index] = self._with_tiles("gradient", size, lambda plan, best=best: best(plan=plan))  # type: ignore[misc]
        return [(lr[index], None if boundary is None else boundary[index]) for index in range(len(pictures))]

    def upscale(
        self,
        lr: Sequence[UInt8Array],
        boundary: Sequence[UInt8Array | None],
        *,
        size: tuple[int, int],
        z: Sequence[ZPolicy],
        grey: Sequence[bool],
        progress: Progress | None = None,
    ) -> list[UInt8Array]:
        """The HR pictures that LR pictures of one size and their boundary levels restore to, as one batch.

        Args:
            lr: (h, w, 3) uint8 each.
            boundary: (h, w) uint8 levels each, or None for a model without.
            size: (H, W) of what is kept of them.
            z: what to use for Z, for each; with a temperature for all or none.
            grey: of each, whether to give the mean of the channels, as three equal ones.
            progress: called with the number of tiles done and in all.

        Returns:
            (H, W, 3) uint8 each.

        Raises:
            As `downscale`.
        """
        self._enter()
        interface, lr_size = self._card.interface, lr[0].shape[:2]
        direction: Direction = "upscale_z" if z[0].temperature else "upscale"
        self._check_direction(direction, size)
        image = np.empty((len(lr), *size, 3), np.uint8)

        def tile(rows: Span, columns: Span) -> None:
            area = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            inputs: dict[str, NDArray[Any]] = {"lr": _batch([pixels[area] for pixels in lr])}
            if interface.bits:
                inputs["boundary"] = _batch([levels[area] for levels in boundary if levels is not None])
            if direction == "upscale_z":
                inputs["latent"] = _batch([self._latent(policy, lr_size[1], rows, columns) for policy in z])
            restored = self._run(direction, inputs)["image"]
            for index in np.flatnonzero(grey):
                restored[index] = to_grey(restored[index])
            keep(image, restored, scaled(rows, interface.scale), scaled(columns, interface.scale))

        with self._lock:
            self._each_tile(direction, (lr_size[0], lr_size[1]), tile, progress, batch=len(lr))
        return list(image)

    def close(self) -> None:
        """Free the engines, after the picture that is being made; in a forked process the parent's stay as they are."""
        self._closed = self._closed or self._process not in (None, os.getpid())
        if self._closed:
            return
        with self._lock:
            self._closed = True
            for engine in self.engines.values():
                engine.close()
            self.engines.clear()
            self._refiner = None

    def _enter(self) -> None:
        """Come before the lock: in a forked process, a thread that is not there may hold it."""
        if self._process is None:
            self._process = os.getpid()
        check_process(self._process)

    def _open_refiner(self) -> Refiner:
        self._check_open()
        if self._refiner is None:
            BACKENDS["torch"].load()
            from bdflow_rt.runtime.refine import Refiner

            bf16 = self._precision == "bf16"
            self._refiner = Refiner(self._card, device=self._selection.device, bf16=bf16, threads=self._threads)
        return self._refiner

    def _latent(self, policy: ZPolicy, width: int, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Z of a window of an LR picture so wide."""
        return latent_rows(
            range(rows.start, rows.stop),
            columns=range(columns.start, columns.stop),
            width=width,
            channels=self._card.interface.latent_channels,
            temperature=policy.temperature,
            seed=policy.seed,
        )

    def _each_tile(
        self,
        direction: Direction,
        size: tuple[int, int],
        function: Callable[[Span, Span], None],
        progress: Progress | None,
        *,
        batch: int,
    ) -> None:
        """Call a function for every window."""

        def each(plan: list[Window]) -> None:
            for done, (rows, columns) in enumerate(plan, 1):
                function(rows, columns)
                if progress is not None:
                    progress(done, len(plan))

        self._with_tiles(direction, size, each, batch=batch)

    def _with_tiles(
        self,
        work: Direction | Literal["gradient"],
        size: tuple[int, int],
        function: Callable[[list[Window]], T],
        *,
        batch: int = 1,
    ) -> T:
        """Call a function with the windows of LR pictures, again with smaller ones where memory runs out."""
        interface, limit_mib = self._card.interface, self._memory_limit_mib / batch
        backend = "gradient" if work == "gradient" else self._selection.backend
        limits: dict[str, Any] = {}
        if work != "gradient" and BACKENDS[self._selection.backend].builds_first:
            spec = self._engine(work).spec
            limits = {"smallest": spec.smallest[1:], "largest": None if spec.largest is None else spec.largest[1:]}
        while True:
            tile = tile_size(*size, interface, memory_limit_mib=limit_mib, backend=backend, **limits)
            tile_mib = tile[0] * tile[1] * bytes_per_lr_pixel(interface, backend) / MIB
            if 2 * tile_mib > limit_mib:  # no room for the working memory of two directions
                self._release(key for key in self.engines if key != work)
            try:
                return function(list(windows(*size, tile, halo_of(interface, backend))))
            except (MemoryError, OutOfMemoryError) as error:
                self._release(self.engines)
                limit_mib = tile_mib / 2
                warnings.warn(
                    f"Memory ran out at {tile_mib:.0f} MiB for a tile ({error}); trying again with smaller tiles. "
                    f"Set memory_limit_mib to {limit_mib:.0f} to begin there.",
                    stacklevel=6,
                )

    def _check_direction(self, direction: Direction, hr_size: tuple[int, ...]) -> None:
        """Refuse before any work what the network does not do."""
        interface, model = self._card.interface, self._card.id
        if direction not in interface.directions:
            raise DirectionError(f"{model} has no {direction}; it has {', '.join(interface.directions)}.")
        if interface.hr_size is not None and interface.hr_size != tuple(hr_size):
            height, width = interface.hr_size
            raise ShapeError(
                f"{model} takes pictures of {width} x {height} pixels alone, and this one has {hr_size[1]} x "
                f"{hr_size[0]}. Resize or cut it, or take another model."
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("This Rescaler was closed; make a new one.")

    def _release(self, directions: Iterable[Direction]) -> None:
        for direction in directions:
            self.engines[direction].release()

    def _run(self, direction: Direction, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._engine(direction).run(inputs)

    def _engine(self, direction: Direction) -> Engine:
        self._check_open()
        if direction not in self.engines:
            self.engines[direction] = open_engine(
                self._selection, self._card, direction, precision=self._precision, threads=self._threads
            )
        return self.engines[direction]


def _batch(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of one shape as a batch; a single one is not copied."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
