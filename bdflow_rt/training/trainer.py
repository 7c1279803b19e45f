"""The training loop: steps, averaged weights, checkpoints, validation, and the way back when a run diverges."""

from __future__ import annotations

import copy
import dataclasses
import pathlib
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bdflow_rt.errors import (
    CheckpointError,
    DivergedError,
    TrainingConfigError,
    TrainingDataError,
    UnwritableOutputError,
)
from bdflow_rt.models.network import Network, build_network
from bdflow_rt.training.checkpoint import load_checkpoint, save_checkpoint
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.curves import draw_curves
from bdflow_rt.training.data import CropBatches, PicturePool
from bdflow_rt.training.distributed import Ranks
from bdflow_rt.training.graphed import Gradients, GraphedGradients
from bdflow_rt.training.guard import DivergenceGuard, usual
from bdflow_rt.training.initial import start_from
from bdflow_rt.training.jpeg import Jpeg
from bdflow_rt.training.optimizers import Optimizer
from bdflow_rt.training.runlog import RunLog
from bdflow_rt.training.step import TrainStep
from bdflow_rt.training.validate import Validation, validate

CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.jsonl"
CURVES_FILE = "curves.png"
CURVES_EVERY_S = 60.0
"""Seconds between two pictures of the curves, which take the better part of one to draw; the end draws one more."""
VALIDATION_JPEG = Jpeg(75)
"""What the LR goes through in the validations of a run with a codec in the loop; Pillow's default."""
MAX_SETBACKS = 4
"""Times in a row a run may go back to the same checkpoint; the learning rate halves at each, for good."""
REFERENCE_CROPS = 64
"""Crops whose usual loss is taken for the loss of some weights: fewer, and flat or busy ones would decide."""


class Trainer:
    """Trains one model in one folder.

    Args:
        config: of the run.
        pool: training pictures.
        folder: where checkpoint.pt, log.jsonl and curves.png are kept.
        minutes: train for this long instead of `config.iterations`, validation included; the cosine then goes by time.
        resume: go on from the folder's checkpoint; else a folder with one is refused.
        device: "cpu", "cuda" or "cuda:N".
        validation: pictures to validate on.
        lpips: network of the perceptual loss where its weight is not 0.
        ranks: this process among several, each with a Trainer of its own; only rank 0 writes and talks.
        say: called with one line of progress at a time.

    With iterations, one process, a CPU and the same pictures and number of threads, a resumed run ends with the
    weights of an unbroken one, bit for bit, however many workers there are.

    Attributes:
        setbacks: how often the run has diverged and gone on from its last good checkpoint, at half the learning rate.
        data: what it has been trained on, as `PicturePool.describe` has it; `before` has what its part before saw.

    Raises:
        CheckpointError: nothing to resume, something in the way, or a checkpoint of another network.
        TrainingConfigError: the model to start from does not fit, or `execution` the device or number of processes;
            what `start_from` raises where it cannot be read.
        TrainingDataError: a picture to validate on is too small for that.
        UnwritableOutputError: the folder cannot be made.
    """

    def __init__(
        self,
        config: TrainConfig,
        pool: PicturePool,
        folder: pathlib.Path,
        *,
        minutes: float | None = None,
        resume: bool = False,
        device: str = "cpu",
        validation: list[NDArray[np.uint8]] | None = None,
        lpips: nn.Module | None = None,
        ranks: Ranks | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.config, self.folder = config, folder
        self._device = torch.device(device)
        self._ranks = ranks or Ranks()
        self._speak = say
        self._pool, self._pictures = pool, validation or []
        _check_validation(self._pictures, scale=config.model.interface().scale)
        self._minutes = minutes
        self._crops = CropBatches(
            pool,
            crop=config.crop,
            batch=config.batch,
            seed=config.seed,
            rank=self._ranks.rank,
            graphics=config.graphics,
        )
        self._batches: Generator[Tensor, None, None] = self._crops.batches(0, workers=0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableOutputError(f"The run's folder {folder} cannot be made: {error.strerror}.") from None
        self._started_from: str | None = None
        self.data: dict[str, Any] = pool.describe()
        self.model, self.averaged = self._new_networks(resume=resume)
        self._optimizer = Optimizer(config.optimizer, self.model, learning_rate=config.learning_rate)
        self._step = TrainStep(self.model, config, lpips=None if lpips is None else lpips.to(self._device))
        self.step, self.elapsed_s = 0, 0.0
        self.setbacks, self._attempts, self._saved_at = 0, 0, 0
        self._pixels_seen = 0
        self._last: Validation | None = None
        self._earlier: list[dict[str, Any]] = []
        if resume:
            self._go_on_from(self._restore())
        elif self.checkpoint.exists():
            raise CheckpointError(f"{self.checkpoint} exists; pass --resume to go on, or choose another folder.")
        self._compute = self._new_gradients()

    @property
    def checkpoint(self) -> pathlib.Path:
        """The one checkpoint of the run, replaced in place."""
        return self.folder / CHECKPOINT_FILE

    @property
    def progress(self) -> float:
        """0 at the start of the run, 1 at its end; by minutes, pauses between resumed parts do not count."""
        by_steps = self.step / self.config.iterations
        return min(1.0, by_steps if self._minutes is None else self.elapsed_s / (60 * self._minutes))

    def train(self, *, stop: Callable[[], bool] = lambda: False) -> Validation | None:
        """Train to the end of the schedule, or until `stop()` says so; a checkpoint is written either way.

        Returns:
            The last validation; None without validation pictures, where there was none yet, and on other ranks.

        Raises:
            DivergedError: the run diverged more than `MAX_SETBACKS` times from the same checkpoint.
        """
        if self._ranks.first:
            self._runlog = RunLog(self.folder / LOG_FILE)
        self._say(f"training x{self.config.model.interface().scale} from step {self.step} on {self._device}")
        if not self.checkpoint.exists():
            self._save()
        try:
            self._start_stretch()
            self._clock = self._drawn = time.monotonic()  # only now, so that the shortest run takes a step
            while True:
                self._tick()
                asked = self._ranks.any(stop())
                if asked or self.progress >= 1:
                    if self._finish(asked=asked):
                        break
                else:
                    self._advance()
        finally:
            self._batches.close()
            self._step.close()
        if self._ranks.first:
            self._draw_curves()
        return self._last

    def _new_networks(self, *, resume: bool) -> tuple[Network, Network]:
        # Made on the CPU, whatever the device: a seed stands for the same weights everywhere.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            model = build_network(self.config.model)
        # A resumed run has its own weights, and goes on where the model it started from is gone.
        if self.config.start_from is not None and not resume:
            card = start_from(model, self.config.start_from)
            self._started_from = card.id
            self.data["started_from"] = {
                "model": card.id,
                "training_data": [dataclasses.asdict(row) for row in card.training_data],
                "pixels_seen": card.pixels_seen,
            }
        model = model.to(self._device)
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        averaged = copy.deepcopy(model).requires_grad_(False).eval()
        model.checkpoint_gradients = self.config.checkpoint_gradients
        return model, averaged

    def _new_gradients(self) -> Gradients:
        graphed, several = self.config.execution == "graphed", self._ranks.world > 1
        if graphed and several:
            raise TrainingConfigError(
                f"execution is 'graphed', which is for one process, but there are {self._ranks.world}; take "
                'execution = "eager" or "compiled".'
            )
        if graphed:
            return GraphedGradients(self._step, clip=self.config.clip)
        if not several:
            return Gradients(self._step, clip=self.config.clip)
        ids = [self._device] if self._device.type == "cuda" else None
        return Gradients(nn.parallel.DistributedDataParallel(self._step, device_ids=ids), clip=self.config.clip)

    def _start_stretch(self) -> None:
        """Begin a part of the run within which steps follow one another and the losses keep their weights."""
        self._log(event="start")
        self._batches = self._crops.batches(
            self.step, workers=self.config.workers, pin_memory=self._device.type == "cuda"
        )
        self._watch()

    def _watch(self) -> None:
        self._baw = self.config.baw_active(self.progress)
        self._guard = DivergenceGuard(self._measure())

    def _advance(self) -> None:
        """One step, or the way back when the run has diverged."""
        # BAW makes the loss larger all at once, which is no divergence.
        if self.config.baw_active(self.progress) != self._baw:
            self._watch()
        computed = self._compute(self._to_device(next(self._batches)), self.progress, self.step)
        # Weights can be saved as good ones only before their update and after their loss has been seen. Else the update
        # is queued first, as a GPU would idle while the host, having waited for the loss, launches it.
        due = self.step - self._saved_at >= self.config.checkpoint_every
        if not due:
            self._update()
        loss, norm = self._ranks.mean(float(computed.loss)), float(computed.norm)
        if self._guard.diverged(loss, norm):
            self._set_back(loss)
            return
        if due:
            if self._guard.calm(loss):
                self._save()
            self._update()
        self.step += 1
        self._pixels_seen += self._ranks.world * self.config.batch * self.config.crop**2
        if self.step % self.config.log_every == 0:
            figures = {name: float(part) for name, part in computed.parts.items()}
            self._log(event="step", loss=loss, parts=figures, gradient_norm=norm)
        if self.step % self.config.validate_every == 0 and self.progress < 1:
            self._validate()

    @torch.no_grad()
    def _update(self) -> None:
        self._optimizer.step(self.config.rate(step=self.step, progress=self.progress) * 0.5**self.setbacks)
        # Early on the average would be dominated by the start; a shorter memory lets it follow.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)

    @torch.no_grad()
    def _measure(self) -> float:
        """Usual loss of the present weights over the next batches, which stay in the run."""
        count = -(-REFERENCE_CROPS // self.config.batch)
        losses = [
            float(self._step(self._to_device(self._crops[step]), self.progress, step)[0])
            for step in range(self.step, self.step + count)
        ]
        return self._ranks.mean(usual(losses))

    def _finish(self, *, asked: bool) -> bool:
        """Save the run's last weights; False where they turn out to have diverged and the run went back instead."""
        loss = self._measure()
        if self._guard.calm(loss):
            if not asked:  # who asks for the end does not want to wait for a validation
                self._validate()
            self._save()
        elif asked:
            self._say(f"the loss has been rising, so step {self.step} is not saved: {self.checkpoint} is older")
        else:
            self._set_back(loss)
            return False
        return True

    def _set_back(self, loss: float) -> None:
        self._attempts += 1
        self._log(event="diverged", loss=loss)
        if self._attempts > MAX_SETBACKS:
            raise DivergedError(
                f"The run diverged {self._attempts} times in a row, last at step {self.step}; its last good checkpoint "
                f"is kept in {self.checkpoint}. Lower learning_rate ({self.config.learning_rate}) or clip "
                f"({self.config.clip}), or raise warmup ({self.config.warmup})."
            )
        self._batches.close()
        spent_s, setbacks = self.elapsed_s, self.setbacks + 1
        self._restore()
        self.elapsed_s, self.setbacks = spent_s, setbacks  # time does not go back, and what was learnt is kept
        self._say(f"diverged: back to step {self.step} with the learning rate halved")
        self._start_stretch()

    def _tick(self) -> None:
        now = time.monotonic()
        self.elapsed_s = self._ranks.of_first(self.elapsed_s + now - self._clock)
        self._clock = now

    def _validate(self) -> None:
        """Measure the averaged weights; rank 0 works, the others wait for it at their next common decision."""
        if not self._ranks.first or not self._pictures:
            return
        jpeg = VALIDATION_JPEG if self.config.codec == "jpeg" else None
        self._last = validate(self.averaged, self._pictures, step=self.step, jpeg=jpeg)
        self._log(event="validation", psnr_y=self._last.psnr_y, lr_psnr=self._last.lr_psnr)
        if time.monotonic() - self._drawn > CURVES_EVERY_S:
            self._draw_curves()

    def _draw_curves(self) -> None:
        draw_curves(self.folder / LOG_FILE, self.folder / CURVES_FILE)
        self._drawn = time.monotonic()

    def _log(self, *, event: str, **values: Any) -> None:
        if not self._ranks.first:
            return
        rate = self._optimizer.learning_rate
        entry = {"event": event, "step": self.step, "elapsed_s": round(self.elapsed_s, 2), "learning_rate": rate}
        self._runlog.add({**entry, **values})
        figures = ", ".join(f"{name} {value:.5g}" for name, value in values.items() if isinstance(value, float))
        if figures:
            self._say(f"{event} {self.step} ({self.progress:.1%}, {self.elapsed_s / 60:.1f} min): {figures}")

    def _say(self, line: str) -> None:
        if self._ranks.first:
            self._speak(line)

    def _to_device(self, crops: Tensor) -> Tensor:
        return crops.to(self._device, non_blocking=True, memory_format=torch.channels_last)

    def _save(self) -> None:
        """Keep the present weights as good ones."""
        self._saved_at, self._attempts = self.step, 0
        if not self._ranks.first:
            return
        save_checkpoint(
            self.checkpoint,
            {
                "config": self.config.to_dict(),
                "started_from": self._started_from,
                "data": self.data,
                "earlier": self._earlier,
                "validation": None if self._last is None else dataclasses.asdict(self._last),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
                "pixels_seen": self._pixels_seen,
                "setbacks": self.setbacks,
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
        )

    def _restore(self) -> dict[str, Any]:
        state = load_checkpoint(self.checkpoint)
        try:
            if TrainConfig.from_dict(state["config"]).model != self.config.model:
                raise CheckpointError(f"{self.checkpoint} is of another network; use its own configuration.")
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed_s, self.setbacks = state["step"], state["elapsed_s"], state["setbacks"]
            self._pixels_seen = state["pixels_seen"]
            validation = state.get("validation")
            self._last = None if validation is None else Validation(**validation)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.checkpoint} is not a checkpoint of such a run: {error}") from None
        self._saved_at = self.step
        return state

    def _go_on_from(self, before: dict[str, Any]) -> None:
        """Say what is otherwise than in the part before, and keep it: the data may be licensed."""
        self._started_from = before.get("started_from")
        old, new = _settings(before["config"]), _settings(self.config.to_dict())
        changed = {key: old[key] for key, value in new.items() if value != old.get(key, value)}
        for key, value in changed.items():
            self._say(f"from here on {key} is {new[key]}, and was {value}; the model's card will name both")
        self._earlier = before.get("earlier", []) + ([{"until_step": self.step, **changed}] if changed else [])
        data = before.get("data", self.data)
        if {key: data.get(key) for key in self.data} == self.data:
            self.data = data
        else:
            differing = {key for key, value in self.data.items() if data.get(key) != value}
            keys = sorted(differing & {"sources", "pictures"}, reverse=True) or sorted(differing)
            now, then = ({key: one.get(key) for key in keys} for one in (self.data, data))
            self._say(f"from here on data is {now}, and was {then}; the model's card will name both")
            self.data = {**self.data, "before": data}


def _check_validation(pictures: list[NDArray[np.uint8]], *, scale: int) -> None:
    """Before the training, after which there would be nothing to show for it."""
    if small := [picture.shape for picture in pictures if min(picture.shape[:2]) <= 2 * scale]:
        raise TrainingDataError(
            f"A picture to validate on has {small[0][1]} x {small[0][0]} pixels; x{scale} needs at least "
            f"{2 * scale + 1} x {2 * scale + 1}, as PSNR leaves out a border of {scale}. Take it out of the folder."
        )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a resumed run may change by mistake, by its name in TOML; more iterations are what resuming is for."""
    settings = {**config, **{f"loss.{key}": value for key, value in config.get("loss", {}).items()}}
    return {key: value for key, value in settings.items() if key not in ("model", "loss", "iterations")}
