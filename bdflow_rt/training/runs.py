"""A whole run: pictures, networks, training until the end or a signal, and the model folder."""

from __future__ import annotations

import itertools
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch

from bdflow_rt.errors import (
    ArgumentError,
    MissingFileError,
    ModelExistsError,
    TrainingConfigError,
    UnwritableOutputError,
)
from bdflow_rt.metrics.lpips import Lpips
from bdflow_rt.models.io import check_name
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.distributed import Ranks, process_group
from bdflow_rt.training.publish import publish
from bdflow_rt.training.trainer import CHECKPOINT_FILE, Trainer
from bdflow_rt.training.validate import read_folder

MODEL_FOLDER = "model"


def train_model(
    config: TrainConfig,
    *,
    data: Sequence[pathlib.Path],
    output: pathlib.Path,
    cache: pathlib.Path,
    name: str,
    version: int,
    minutes: float | None = None,
    resume: bool = False,
    device: str = "auto",
    validation: pathlib.Path | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Train a model and write OUTPUT/model, alone or as one of the processes that torchrun started.

    A resumed run that ends with other weights writes OUTPUT/model anew and keeps the former one as OUTPUT/model-1,
    model-2 and so on: no weights that a packet may name are ever lost. `tools.release` gives a model its version.

    The first SIGTERM or SIGINT ends the run after the present step, with a checkpoint; the second ends it at once.

    Args:
        config: of the run.
        data: folders or .tar files of training pictures.
        output: folder of the run.
        cache: folder for the decoded pictures.
        name, version: of the model that is written.
        minutes: length of the run in minutes; None: `config.iterations`.
        resume: go on with the run in `output`.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        validation: folder of pictures to validate on.
        say: called with one line of progress at a time, on rank 0.

    Returns:
        0 at the end of the schedule; the number of the signal that ended the run before.

    Raises:
        TrainingError: one of its kinds; ArgumentError: the device, name or version is not allowed.
    """
    check_name(name, version)
    device = _choose_device(device)
    with process_group(device) as (ranks, device):
        signalled = _train(
            Trainer(
                config,
                _open_pool(data, cache, ranks),
                output,
                minutes=minutes,
                resume=resume,
                device=device,
                validation=None if validation is None else read_folder(validation),
                lpips=_perceptual(config),
                ranks=ranks,
                say=say,
            )
        )
        if not signalled and ranks.first:
            _publish(output, name=name, version=version, say=say)
        return signalled


def _train(trainer: Trainer) -> int:
    """Train to the end of the schedule, or to a signal, whose number is returned; the trainer ends with the call."""
    with _signals() as received:
        trainer.train(stop=lambda: bool(received))
    if trainer.progress >= 1:
        return 0
    return received[0] if received else signal.SIGTERM  # another process had the signal


def _publish(output: pathlib.Path, *, name: str, version: int, say: Callable[[str], None]) -> None:
    """Write OUTPUT/model; one that an earlier part of the run wrote is kept beside it, as packets may need it."""
    folder = output / MODEL_FOLDER
    try:
        card = publish(output / CHECKPOINT_FILE, folder, name=name, version=version)
    except ModelExistsError:
        kept = next(path for number in itertools.count(1) if not (path := output / f"{folder.name}-{number}").exists())
        try:
            folder.rename(kept)
        except OSError as error:
            raise UnwritableOutputError(f"'{folder}' cannot be moved to '{kept}': {error.strerror}.") from None
        say(f"kept the model of an earlier part of this run as {kept}; packets made with it need its weights")
        card = publish(output / CHECKPOINT_FILE, folder, name=name, version=version)
    say(f"wrote {card.id} to {card.folder}")


def _choose_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or (number and not number.isdecimal()) or device.endswith(":")):
        raise ArgumentError(f"device is {device!r}; it must be 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ArgumentError(
            f"device is {device!r}, but PyTorch sees {torch.cuda.device_count()} GPUs here; use 'cpu' or another "
            "number. 'bdflow doctor' says more."
        )
    return device


def _open_pool(data: Sequence[pathlib.Path], cache: pathlib.Path, ranks: Ranks) -> PicturePool:
    """Rank 0 decodes the pictures, the others find them done."""
    pool = PicturePool(data, cache=cache) if ranks.first else None
    ranks.wait()
    return pool or PicturePool(data, cache=cache)


def _perceptual(config: TrainConfig) -> Lpips | None:
    if not config.loss.lpips:
        return None
    try:
        return Lpips(path=config.lpips_weights)
    except MissingFileError as error:
        raise TrainingConfigError(
            f"The loss has an LPIPS weight of {config.loss.lpips}, but: {error} Their path goes into [loss] as "
            'lpips_weights = "FILE.npz"; lpips = 0 trains without.'
        ) from None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The numbers of the signals that asked the run to end; after the first they end it at once."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        restore()
