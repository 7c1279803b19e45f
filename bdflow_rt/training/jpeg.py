"""Pictures through real JPEG files: Pillow's libjpeg, in worker processes where there are several."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdflow_rt.errors import TrainingError

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Jpeg:
    """Settings of a JPEG file.

    Attributes:
        quality: 1 to 100, as libjpeg counts it.
        halved_chroma: 4:2:0, chroma at half the width and height; False is 4:4:4.
    """

    quality: int
    halved_chroma: bool = True

    @classmethod
    def draw(cls, random: np.random.Generator, *, lowest: int, highest: int) -> Jpeg:
        """Settings of one batch: every quality in the range is as likely, and so is either sampling of chroma."""
        return cls(int(random.integers(lowest, highest + 1)), bool(random.integers(2)))

    def encode(self, pixels: UInt8Array) -> bytes:
        """(h, w, 3) uint8 RGB as a file."""
        stream = io.BytesIO()
        subsampling = "4:2:0" if self.halved_chroma else "4:4:4"
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.save(stream, "JPEG", quality=self.quality, subsampling=subsampling)
        return stream.getvalue()

    def apply(self, pictures: UInt8Array) -> UInt8Array:
        """(N, h, w, 3) uint8 RGB, each written as a file and read again."""
        return np.stack([_decode(self.encode(picture)) for picture in pictures])

    def tables(self) -> tuple[list[int], list[int]]:
        """The 64 quantisation steps of luma and of chroma, row by row, as libjpeg writes them."""
        with _open(self.encode(np.zeros((8, 8, 3), np.uint8))) as image:
            tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]
            return list(tables[0]), list(tables[1])


class JpegWorkers:
    """Codes batches in processes: Pillow holds Python's lock while it codes, so threads gain nothing.

    Args:
        count: processes; below 2 the batch is coded where it is.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._executor: Executor | None = None

    def apply(self, settings: Jpeg, pictures: UInt8Array) -> UInt8Array:
        """As `Jpeg.apply`.

        Raises:
            TrainingError: a process was ended from outside.
        """
        if self._count < 2:
            return settings.apply(pictures)
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._count, mp_context=multiprocessing.get_context(), initializer=_start_worker
            )
        parts = np.array_split(pictures, min(self._count, len(pictures)))
        try:
            return np.concatenate(list(self._executor.map(settings.apply, parts)))
        except BrokenExecutor:
            self.close()
            raise TrainingError(
                "A process that writes JPEG files ended, perhaps for want of memory. Go on with --resume, and fewer "
                "workers."
            ) from None

    def close(self) -> None:
        """End the processes; the next batch starts new ones."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def _decode(data: bytes) -> UInt8Array:
    with _open(data) as image:
        return np.asarray(image)


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group, but it is for the trainer to end the run, after its checkpoint.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed trainer ends no worker, and this one ignores signals."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
