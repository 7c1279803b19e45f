"""Training pictures: decoded once into a memory-mapped pool, cut into crops by worker processes.

Decoding a JPEG for every crop costs more than a training step on a small machine, so pictures from folders and tars
are decoded once into one file of raw bytes beside an index; workers and several runs share it through the page cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import zlib
from collections.abc import Generator, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import InputError, OutputError, TrainingDataError, UnsupportedImageError
from bdflow_rt.files import write_atomically
from bdflow_rt.training.graphics import draw_graphics
from bdflow_rt.training.sources import PICTURE_SUFFIXES, candidates, count_by, rule_files, source_files

POOL_VERSION = 3


class PicturePool:
    """Decoded RGB pictures in one memory-mapped file.

    Args:
        sources: folders (searched recursively) or .tar files of pictures; what a manifest or a list of held-out
            originals beside them excludes is not in the pool (`training.sources`).
        cache: folder the pool is kept in; a pool of the same sources is used again.

    Attributes:
        names: of the sources, without their folders.
        pictures: names of the pictures.
        shapes: (height, width) of every picture.

    Raises:
        TrainingDataError: a source is missing, no picture was found, one does not decode, or the pool cannot be
            written.
    """

    def __init__(self, sources: Sequence[pathlib.Path], *, cache: pathlib.Path) -> None:
        for source in sources:
            if not os.path.exists(source):  # a name that is too long, for one, is no reason for an OSError
                raise TrainingDataError(f"Training data {source} does not exist; give a folder or a .tar of pictures.")
        self.names = [source.resolve().name for source in sources]
        self._raw = cache / f"pool-{_fingerprint(sources)}.raw"
        index_file = self._raw.with_suffix(".json")
        index = _read_index(self._raw, index_file) or _build_pool(sources, self._raw, index_file)
        self.pictures: list[str] = index["pictures"]
        self.shapes: list[tuple[int, int]] = [(height, width) for height, width in index["shapes"]]
        self._licences, self._excluded = index["licences"], index["excluded"]
        sizes = [3 * height * width for height, width in self.shapes]
        self._starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.shapes)

    def describe(self) -> dict[str, Any]:
        """For cards and results: the sources, how many pictures, their licences, and what was left out and why."""
        return {
            "sources": self.names,
            "pictures": len(self),
            "licences": self._licences,
            "excluded": self._excluded,
        }

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, read-only, not loaded until it is touched."""
        height, width = self.shapes[index]
        return np.memmap(self._raw, np.uint8, "r", int(self._starts[index]), (height, width, 3))


class CropBatches(Dataset[torch.Tensor]):
    """Batch number `step` of a run, a pure function of (seed, step, rank): resuming needs no random state.

    Pictures are drawn in proportion to their area; each crop is flipped and turned at random, and `graphics` of them
    (0 to 1) get graphics drawn over (`training.graphics`).
    """

    def __init__(
        self, pool: PicturePool, *, crop: int, batch: int, seed: int, rank: int = 0, graphics: float = 0.0
    ) -> None:
        self._usable = [i for i, (h, w) in enumerate(pool.shapes) if h >= crop and w >= crop]
        if not self._usable:
            raise TrainingDataError(f"No picture is at least {crop} x {crop}; use larger pictures or a smaller crop.")
        area = np.array([pool.shapes[i][0] * pool.shapes[i][1] for i in self._usable], np.float64)
        self._chance = np.cumsum(area / area.sum())
        self._pool, self._crop, self._batch, self._key = pool, crop, batch, (seed, rank)
        self._graphics = graphics

    def __getitem__(self, step: int) -> torch.Tensor:
        """(batch, 3, crop, crop) uint8."""
        random = np.random.default_rng((*self._key, step))
        return torch.from_numpy(np.stack([self._cut(random) for _ in range(self._batch)]).transpose(0, 3, 1, 2))

    def _cut(self, random: np.random.Generator) -> NDArray[np.uint8]:
        picked = int(np.searchsorted(self._chance, random.random(), side="right"))
        picture = self._pool[self._usable[min(picked, len(self._usable) - 1)]]
        top = int(random.integers(picture.shape[0] - self._crop + 1))
        left = int(random.integers(picture.shape[1] - self._crop + 1))
        crop = np.rot90(picture[top : top + self._crop, left : left + self._crop], int(random.integers(4)))
        # Copied, because a view keeps the picture's file open: large batches would run out of descriptors.
        crop = (crop[:, ::-1] if random.random() < 0.5 else crop).copy()
        if self._graphics and random.random() < self._graphics:
            draw_graphics(crop, random)
        return crop

    def batches(self, first: int, *, workers: int, pin_memory: bool = False) -> Generator[torch.Tensor, None, None]:
        """Batches first, first + 1, ... without end, cut ahead of time by worker processes.

        Closing the generator ends the workers. With `pin_memory` the batches are in page-locked memory, from which a
        GPU fetches them while it computes.
        """
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, first + 2**31),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=pin_memory,
            worker_init_fn=_ignore_signals,
        )
        # The loader's iterator ends its workers when the last reference to it goes, here with the generator.
        yield from loader


def decode(name: str, data: bytes) -> NDArray[np.uint8]:
    """The pixels of a picture file, (H, W, 3) uint8 RGB.

    Raises:
        TrainingDataError: it is damaged, cut off or too large, or of a kind that would be altered; `name` is named.
    """
    try:
        return read_picture(data).pixels
    except UnsupportedImageError as error:  # whose ways out are options of other commands
        reason = str(error).partition(";")[0]
        raise TrainingDataError(
            f"{name} cannot be used. {reason}; convert it to an opaque picture of 8 bits in RGB, or remove it."
        ) from None
    except InputError as error:
        raise TrainingDataError(f"{name} cannot be used. {error} Or remove it.") from None


def _ignore_signals(_: int) -> None:
    # Nothing of OpenCV here: after a fork its thread pool lacks its threads, and even setNumThreads waits for ever.
    # Ctrl-C reaches the whole process group, but it is for the trainer to end the run, after its checkpoint.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _fingerprint(sources: Sequence[pathlib.Path]) -> str:
    digest = hashlib.sha256(f"pool {POOL_VERSION}".encode())
    for file in (*(file for source in sources for file in source_files(source)), *rule_files(sources)):
        status = file.stat()
        digest.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _read_index(raw: pathlib.Path, index_file: pathlib.Path) -> dict[str, Any] | None:
    """The index of an earlier pool; None where there is none or it is not whole."""
    try:
        index: dict[str, Any] = json.loads(index_file.read_text())
        is_whole = raw.stat().st_size == sum(3 * height * width for height, width in index["shapes"])
        is_whole &= len(index["pictures"]) == len(index["shapes"]) > 0
        is_whole &= all(isinstance(index[key], dict) for key in ("licences", "excluded"))
        is_whole = is_whole and _crc32_of(raw) == index["crc32"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if is_whole else None


def _crc32_of(raw: pathlib.Path) -> int:
    crc = 0
    with raw.open("rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return crc


def _build_pool(sources: Sequence[pathlib.Path], raw: pathlib.Path, index_file: pathlib.Path) -> dict[str, Any]:
    index: dict[str, Any] = {}
    try:
        raw.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(raw, lambda file: index.update(_decode_all(sources, file)))
        write_atomically(index_file, json.dumps(index).encode())
    except (OSError, OutputError) as error:
        raise TrainingDataError(
            f"The decoded pictures cannot be gathered in {raw.parent}: {error} Choose another folder with --cache; it "
            "needs 3 bytes per pixel of all pictures."
        ) from None
    return index


def _decode_all(sources: Sequence[pathlib.Path], raw: BinaryIO) -> dict[str, Any]:
    """Write the pixels one after the other; the index: names and sizes, licences, and why others were left out."""
    crc = 0
    pictures: list[str] = []
    shapes: list[tuple[int, int]] = []
    licences: list[str] = []
    excluded: list[str] = []
    for candidate in candidates(sources):
        if candidate.excluded is not None:
            excluded.append(candidate.excluded)
            continue
        picture = decode(candidate.name, candidate.data)
        raw.write(picture.data)
        crc = zlib.crc32(picture.data, crc)
        pictures.append(candidate.name)
        shapes.append((picture.shape[0], picture.shape[1]))
        licences.append(candidate.licence)
    if not shapes:
        left_out = "".join(f"; {n} are {why}" for why, n in count_by(excluded).items())
        raise TrainingDataError(
            f"No pictures to train on in {', '.join(map(str, sources))}{left_out}; looked for "
            f"{', '.join(sorted(PICTURE_SUFFIXES))}."
        )
    counts = {"licences": count_by(licences), "excluded": count_by(excluded)}
    return {"pictures": pictures, "shapes": shapes, "crc32": crc, **counts}
