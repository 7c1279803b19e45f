"""`Runner`: one model over whole pictures, in exact tiles within a memory limit."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable
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

    def downscale(
        self, pixels: UInt8Array, *, z: ZPolicy, grey: bool, refine: int, progress: Progress | None
    ) -> tuple[UInt8Array, UInt8Array | None]:
        """The LR picture and the boundary levels of an HR picture.

        Args:
            pixels: (H, W, 3) uint8.
            z: what `upscale` will use, for which the LR pixels are refined.
            grey: `upscale` will take the mean of the channels.
            refine: steps of gradient descent; 0 is none.
            progress: called with the number of tiles done and in all; again for `refine`.

        Returns:
            (h, w, 3) uint8, and (h, w) uint8 or None for a model without a boundary.

        Raises:
            NonFiniteOutputError, OutOfMemoryError, BackendUnavailableError: an engine failed or does not load.
            ForkedProcessError: this process was forked from one that has used the runner, or its backend.
            ClosedError: the runner was closed.
        """
        self._enter()
        interface = self._card.interface
        self._check_direction("downscale", pixels.shape[:2])
        size = -(-pixels.shape[0] // interface.scale), -(-pixels.shape[1] // interface.scale)
        lr = np.empty((*size, 3), np.uint8)
        boundary = np.empty(size, np.uint8) if interface.bits else None

        def one(rows: Span, columns: Span) -> None:
            tile = hr_window(pixels, rows, columns, interface.scale)
            results = self._run("downscale", {"image": tile[None]})
            keep(lr, results["lr"][0], rows, columns)
            if boundary is not None:
                keep(boundary, results["boundary"][0], rows, columns)

        with self._lock:
            refiner = self._open_refiner() if refine else None  # what it lacks is better said at once
            self._each_tile("downscale", size, one, progress)
            if refiner is not None:
                self._check_open()  # `progress` may have closed it
                from bdflow_rt.runtime.refine import Target

                latent = partial(self._latent, z, size[1]) if z.temperature else None
                target = Target(pixels, boundary, grey=grey, latent=latent)
                best = partial(refiner.refine, target, lr, steps=refine, progress=progress)
                lr = self._with_tiles("gradient", size, lambda plan: best(plan=plan))
        return lr, boundary

    def upscale(
        self,
        lr: UInt8Array,
        boundary: UInt8Array | None,
        *,
        size: tuple[int, int],
        z: ZPolicy,
        grey: bool,
        progress: Progress | None,
    ) -> UInt8Array:
        """The HR picture that an LR picture and its boundary levels restore to.

        Args:
            lr: (h, w, 3) uint8.
            boundary: (h, w) uint8 levels, or None for a model without.
            size: (H, W) of what is kept of it.
            z: what to use for Z.
            grey: give the mean of the channels, as three equal ones.
            progress: called with the number of tiles done and in all.

        Returns:
            (H, W, 3) uint8.

        Raises:
            As `downscale`.
        """
        self._enter()
        scale = self._card.interface.scale
        direction: Direction = "upscale_z" if z.temperature else "upscale"
        self._check_direction(direction, size)
        image = np.empty((*size, 3), np.uint8)

        def one(rows: Span, columns: Span) -> None:
            area = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            inputs: dict[str, NDArray[Any]] = {"lr": lr[area][None]}
            if boundary is not None:
                inputs["boundary"] = boundary[area][None]
            if z.temperature:
                inputs["latent"] = self._latent(z, lr.shape[1], rows, columns)[None]
            restored = self._run(direction, inputs)["image"][0]
            keep(image, to_grey(restored) if grey else restored, scaled(rows, scale), scaled(columns, scale))

        with self._lock:
            self._each_tile(direction, (lr.shape[0], lr.shape[1]), one, progress)
        return image

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
    ) -> None:
        """Call a function for every window."""

        def each(plan: list[Window]) -> None:
            for done, (rows, columns) in enumerate(plan, 1):
                function(rows, columns)
                if progress is not None:
                    progress(done, len(plan))

        self._with_tiles(direction, size, each)

    def _with_tiles(
        self, work: Direction | Literal["gradient"], size: tuple[int, int], function: Callable[[list[Window]], T]
    ) -> T:
        """Call a function with the windows of an LR picture, again with smaller ones where memory runs out."""
        interface, limit_mib = self._card.interface, self._memory_limit_mib
        backend = "gradient" if work == "gradient" else self._selection.backend
        while True:
            tile = tile_size(*size, interface, memory_limit_mib=limit_mib, backend=backend)
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
        self._check_open()
        if direction not in self.engines:
            self.engines[direction] = open_engine(
                self._selection, self._card, direction, precision=self._precision, threads=self._threads
            )
        return self.engines[direction].run(inputs)
