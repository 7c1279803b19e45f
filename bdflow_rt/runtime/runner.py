"""`Runner`: one model over whole pictures, in exact tiles within a memory limit, on a pool of workers."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.engine import Engine, Job
from bdflow_rt.engines.front import NV12, RGB, Front
from bdflow_rt.engines.select import Selection, alternatives, choose_precision, open_engine
from bdflow_rt.errors import (
    ArgumentError,
    BackendUnavailableError,
    DeviceMismatchError,
    DirectionError,
    OutOfMemoryError,
    OutsideProfileError,
    ShapeError,
)
from bdflow_rt.interop import is_gpu_array
from bdflow_rt.options import Backend, Precision, Progress, RescalerOptions
from bdflow_rt.packet import ZPolicy
from bdflow_rt.picture import UInt8Array
from bdflow_rt.runtime.arrays import Arrays, DeviceArrays, HostArrays
from bdflow_rt.runtime.latent import latent_rows
from bdflow_rt.runtime.plan import (
    MIB,
    Span,
    Window,
    bytes_per_lr_pixel,
    describe_cost,
    halo_of,
    scaled,
    tile_size,
    windows,
)
from bdflow_rt.runtime.pool import Pool, Worker
from bdflow_rt.runtime.tiles import Outputs, Targets, gather
from bdflow_rt.zoo import Direction, ModelCard

if TYPE_CHECKING:
    from bdflow_rt.runtime.refine import Refiner

MAX_BATCH_PIXELS = 1 << 20
"""HR pixels of a batch; a larger picture alone keeps all cores busy."""
T = TypeVar("T")
Frame = Mapping[str, Any]
"""The arrays of a picture, by name: `image`, or those of another front; `lr` and `boundary`."""


class Runner:
    """One model's engines, opened when they are first needed, and its `Refiner`.

    Threads: each takes a worker for its pictures, and waits where none is free; tiles of two pictures on one engine
    would have it prepare each tile anew.

    Args:
        card: of the model.
        selection: backend and device.
        precision: "fp32", "bf16" or "fp16".
        options: threads, workers and memory limit.

    Attributes:
        pool: the workers.
        fallback: what runs where the engines of `selection` take no tile of a picture; None where that has not been.
    """

    def __init__(
        self, card: ModelCard, selection: Selection, *, precision: Precision, options: RescalerOptions
    ) -> None:
        self.pool = Pool(options.workers, self._open)
        self.fallback: Selection | None = None
        self._card = card
        self._selection = selection
        self._precision: Precision = precision
        self._threads = threads_of_each(options)
        self._share = options.workers
        self._memory_limit_mib = options.memory_limit_mib / self._share
        self._refiner: Refiner | None = None
        self._refining = threading.RLock()

    def batch_size(self, direction: Direction, lr_size: tuple[int, int]) -> int:
        """Pictures of (h, w) LR pixels that go through an engine at once: those that fit, as wholes."""
        interface, backend = self._card.interface, self._selection.backend
        pixels = lr_size[0] * lr_size[1]
        fitting = self._memory_limit_mib * MIB / (pixels * bytes_per_lr_pixel(interface, backend))
        most = int(min(fitting, MAX_BATCH_PIXELS // (pixels * interface.scale**2)))
        if most > 1 and BACKENDS[backend].builds_first:
            with self.pool.worker() as worker:
                largest = self.pool.engine(worker, self._selection, direction).spec.largest
            most = most if largest is None else min(most, largest[0])
        return max(1, most)

    def downscale(
        self,
        frames: Sequence[Frame],
        *,
        z: ZPolicy,
        grey: Sequence[bool],
        refine: int = 0,
        progress: Progress | None = None,
        out: Frame | None = None,
        stream: Any = None,
        front: Front = RGB,
    ) -> Job[list[Outputs]]:
        """The LR pictures and the boundary levels of HR pictures of one size, as one batch.

        Args:
            frames: HR pictures; all on one side, the host's or a GPU's.
            z: what `upscale` will use, for which the LR pixels are refined.
            grey: of each picture, whether `upscale` will take the mean of the channels.
            refine: steps of gradient descent; 0 is none.
            progress: called with the number of tiles done and in all; again for `refine`.
            out: arrays for the results of a single picture, by name; what is not there is made.
            stream: for arrays of a GPU, as for `Engine.submit`.
            front: what the frames are made of.

        Returns:
            Of each `lr` (h, w, 3) and, where the model has one, `boundary` (h, w), uint8.

        Raises:
            NonFiniteOutputError, OutOfMemoryError, BackendUnavailableError: an engine failed or does not load.
            OutsideProfileError: no engine takes a tile of them.
            DeviceMismatchError: they are not where the engine is.
            ForkedProcessError: this process was forked from one that has used the runner, or its backend.
            ClosedError: the runner was closed.
        """
        interface, leader = self._card.interface, frames[0][front.arrays[0]]
        hr_size = leader.shape[0], leader.shape[1]
        self._check_direction("downscale", hr_size)
        size = -(-hr_size[0] // interface.scale), -(-hr_size[1] // interface.scale)
        shapes: dict[str, tuple[int, ...]] = {"lr": (*size, 3)} | ({"boundary": size} if interface.bits else {})

        def run(tiles: Iterable[Window], engine: Engine) -> Job[list[Outputs]]:
            with self._laid_out(engine, frames, leader, shapes, out, stream) as (arrays, views, outputs):
                pictures = [
                    arrays.rgb_of(front, **view) if isinstance(front, NV12) else view["image"] for view in views
                ]
                for rows, columns in tiles:
                    area = scaled(rows, interface.scale), scaled(columns, interface.scale)
                    outputs.write(engine, {"image": gather(arrays, pictures, *area)}, rows, columns)
                return outputs.job()

        with self.pool.worker() as worker:
            refiner = self._open_refiner() if refine else None  # what it lacks is better said at once
            job = self._with_engine(worker, "downscale", size, run, frames=frames, progress=progress)
            if refiner is not None:
                worker.check_open()  # `progress` may have closed it
                for frame, made, is_grey in zip(frames, job.wait(), grey, strict=True):
                    self._refine(
                        refiner, worker, frame["image"], made, z=z, grey=is_grey, steps=refine, progress=progress
                    )
            return job

    def upscale(
        self,
        frames: Sequence[Frame],
        *,
        size: tuple[int, int],
        z: Sequence[ZPolicy],
        grey: Sequence[bool],
        progress: Progress | None = None,
        out: Frame | None = None,
        stream: Any = None,
        front: Front = RGB,
    ) -> Job[list[Outputs]]:
        """The HR pictures that LR pictures of one size and their boundary levels restore to, as one batch.

        Args:
            frames: `lr` (h, w, 3) uint8 and, where the model has one, `boundary` (h, w) uint8 levels.
            size: (H, W) of what is kept of them.
            z: what to use for Z, for each; with a temperature for all or none.
            grey: of each, whether to give the mean of the channels, as three equal ones.
            progress: called with the number of tiles done and in all.
            out, stream, front: as for `downscale`.

        Returns:
            The arrays of the front, each.

        Raises:
            As `downscale`.
        """
        interface, leader = self._card.interface, frames[0]["lr"]
        lr_size = leader.shape[0], leader.shape[1]
        direction: Direction = "upscale_z" if z[0].temperature else "upscale"
        self._check_direction(direction, size)
        shapes: dict[str, tuple[int, ...]] = {"image": (*size, 3)}
        if isinstance(front, NV12):
            shapes = {"luma": size, "chroma": ((size[0] + 1) // 2, (size[1] + 1) // 2, 2)}

        def run(tiles: Iterable[Window], engine: Engine) -> Job[list[Outputs]]:
            with self._laid_out(engine, frames, leader, shapes, out, stream) as (arrays, views, outputs):
                pictures = outputs
                if isinstance(front, NV12):
                    pictures = Targets(arrays, {"image": (*size, 3)}, len(frames), None)
                for rows, columns in tiles:
                    tile = {name: gather(arrays, [view[name] for view in views], rows, columns) for name in views[0]}
                    if direction == "upscale_z":
                        latent = [self._latent(policy, lr_size[1], rows, columns) for policy in z]
                        tile["latent"] = arrays.upload(np.stack(latent))
                    pictures.write(engine, tile, scaled(rows, interface.scale), scaled(columns, interface.scale))
                for index, image in enumerate(pictures.views["image"]):
                    if grey[index]:
                        arrays.to_grey(image)
                    if isinstance(front, NV12):
                        arrays.nv12_of(front, image, **{name: view[index] for name, view in outputs.views.items()})
                return outputs.job()

        with self.pool.worker() as worker:
            return self._with_engine(worker, direction, lr_size, run, frames=frames, progress=progress)

    def close(self, *, cancel: bool = False) -> None:
        """See `Pool.close`."""
        self.pool.close(cancel=cancel)
        self._refiner = None

    def _open(self, selection: Selection, direction: Direction) -> Engine:
        is_first = selection == self._selection
        precision = self._precision if is_first else choose_precision(selection, self._card, None)[0]
        return open_engine(selection, self._card, direction, precision=precision, threads=self._threads)

    def _open_refiner(self) -> Refiner:
        with self._refining:
            if self._refiner is None:
                BACKENDS["torch"].load()
                from bdflow_rt.runtime.refine import Refiner

                bf16 = self._precision == "bf16"
                self._refiner = Refiner(self._card, device=self._selection.device, bf16=bf16, threads=self._threads)
            return self._refiner

    def _refine(
        self,
        refiner: Refiner,
        worker: Worker,
        pixels: UInt8Array,
        made: Outputs,
        *,
        z: ZPolicy,
        grey: bool,
        steps: int,
        progress: Progress | None,
    ) -> None:
        """Refine the LR pixels of a picture where they are."""
        from bdflow_rt.runtime.refine import Target

        lr = made["lr"]
        latent = partial(self._latent, z, lr.shape[1]) if z.temperature else None
        target = Target(pixels, made.get("boundary"), grey=grey, latent=latent)

        def go_on(done: int, count: int) -> None:
            worker.check_open()
            if progress is not None:
                progress(done, count)

        def refine(plan: list[Window]) -> UInt8Array:
            with self._refining:
                return refiner.refine(target, lr, steps=steps, plan=plan, progress=go_on)

        lr[...] = self._with_tiles(worker, lr.shape[:2], refine, backend="gradient")
        worker.check_open()

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

    @contextmanager
    def _laid_out(
        self,
        engine: Engine,
        frames: Sequence[Frame],
        leader: Any,
        shapes: Mapping[str, tuple[int, ...]],
        out: Frame | None,
        stream: Any,
    ) -> Iterator[tuple[Arrays, list[Outputs], Targets]]:
        """Views of the inputs, and where the outputs go; inside, all work is on the stream."""
        arrays = self._arrays(engine, leader, stream)
        with arrays.active():
            views = [{name: arrays.view(name, array) for name, array in frame.items()} for frame in frames]
            outputs = Targets(arrays, shapes, len(frames), out, beside=views)
            with arrays.on_stream():
                yield arrays, views, outputs

    def _arrays(self, engine: Engine, leader: Any, stream: Any) -> Arrays:
        """Where the arrays of a picture are, which is where the engine has to be."""
        if not is_gpu_array(leader):
            if stream is not None:
                raise ArgumentError("stream is for arrays of a GPU, and these are in the host's memory. Leave it out.")
            return HostArrays()
        if engine.gpu is None:
            raise DeviceMismatchError(
                f"The picture is on a GPU, and backend {engine.backend!r} takes arrays of the host alone here. Copy it "
                "to the host, or make the Rescaler with device='cuda', which takes CuPy as well."
            )
        return DeviceArrays(engine.gpu, stream=stream, leader=leader)

    def _with_engine(
        self,
        worker: Worker,
        direction: Direction,
        size: tuple[int, int],
        function: Callable[[Iterable[Window], Engine], T],
        *,
        frames: Sequence[Frame],
        progress: Progress | None,
    ) -> T:
        """Call a function with the windows of LR pictures and the engine for them.

        Where the engine takes no window that would do, it is another backend's, and a warning says so.
        """

        def run(selection: Selection) -> T:
            engine = self.pool.engine(worker, selection, direction)
            return self._with_tiles(
                worker,
                size,
                lambda plan: function(_each(plan, worker, progress), engine),
                backend=selection.backend,
                batch=len(frames),
                engine=engine,
            )

        try:
            return run(self._selection)
        except OutsideProfileError as error:
            on_host = not is_gpu_array(next(iter(frames[0].values())))
            for selection in alternatives(self._selection, on_host=on_host):
                with suppress(BackendUnavailableError):
                    self.pool.engine(worker, selection, direction)
                    break
            else:
                raise
            if self.fallback != selection:
                self.fallback = selection
                warnings.warn(
                    f"{error} Backend {selection.backend!r} on {selection.device} runs instead.", stacklevel=5
                )
            return run(selection)

    def _with_tiles(
        self,
        worker: Worker,
        size: tuple[int, int],
        function: Callable[[list[Window]], T],
        *,
        backend: Backend | Literal["gradient"],
        batch: int = 1,
        engine: Engine | None = None,
    ) -> T:
        """Call a function with the windows of LR pictures, again with smaller ones where memory runs out."""
        interface, limit_mib = self._card.interface, self._memory_limit_mib / batch
        largest = None if engine is None else engine.spec.largest
        limits: dict[str, Any] = {
            "smallest": (1, 1) if engine is None else engine.spec.smallest[1:],
            "largest": None if largest is None else largest[1:],
        }
        while True:
            tile = tile_size(*size, interface, memory_limit_mib=limit_mib, backend=backend, share=self._share, **limits)
            tile_mib = tile[0] * tile[1] * bytes_per_lr_pixel(interface, backend) / MIB
            plan = list(windows(*size, tile, halo_of(interface, backend)))
            if limit_mib == self._memory_limit_mib / batch and (
                cost := describe_cost(
                    size, tile, len(plan), interface, backend=backend, limit_mib=limit_mib, share=self._share * batch
                )
            ):
                warnings.warn(cost, stacklevel=7)
            if 2 * tile_mib > limit_mib:  # no room for the working memory of two directions
                _release(worker, but=engine)
            try:
                return function(plan)
            except (MemoryError, OutOfMemoryError) as error:
                _release(worker)
                limit_mib = tile_mib / 2
                warnings.warn(
                    f"Memory ran out at {tile_mib:.0f} MiB for a tile ({error}); trying again with smaller tiles. "
                    f"Set memory_limit_mib to {self._share * limit_mib * batch:.3g} to begin there.",
                    stacklevel=7,
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


def threads_of_each(options: RescalerOptions) -> int | None:
    """CPU threads of each worker; None leaves them to the backend."""
    if options.workers == 1:
        return options.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (options.threads or cores) // options.workers)


def _each(plan: list[Window], worker: Worker, progress: Progress | None) -> Iterator[Window]:
    """The windows, while the worker is to go on."""
    for done, window in enumerate(plan, 1):
        worker.check_open()
        yield window
        if progress is not None:
            progress(done, len(plan))


def _release(worker: Worker, but: Engine | None = None) -> None:
    for engine in worker.engines.values():
        if engine is not but:
            engine.release()


def _leader(frames: Sequence[Frame]) -> Any:
    """The array that says where the others are."""
    return next(iter(frames[0].values()))
