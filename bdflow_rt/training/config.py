"""What a training run is told, read from a TOML file."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bdflow_rt.errors import ModelConfigError, ModelVersionError, TrainingConfigError
from bdflow_rt.training.codec import CodecGradient
from bdflow_rt.training.losses import LossWeights
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.architecture import Architecture, find_architecture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OptimizerName = Literal["adam", "muon"]
Execution = Literal["eager", "compiled", "graphed"]
Precision = Literal["fp32", "bf16"]
Codec = Literal["none", "jpeg"]
CHOICES = {
    "execution": Execution, "precision": Precision, "optimizer": OptimizerName,
    "codec": Codec, "codec_gradient": CodecGradient,
}  # fmt: skip
MAX_WORKERS = 1024
"""Far above what is of use; more processes than a machine takes would bring it down."""
MAX_SEED = 2**31 - 1
"""Of Z: together with the step it has to fit the 64 bits of torch's generators."""
MAX_LEARNING_RATE = 1e30
"""Runs diverge long before; beyond it an update may be no float32."""
MAX_CROP_PIXELS = 1 << 28
"""Of all crops of a step: a network needs some hundred times their bytes, and cutting them would take minutes."""
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("batch", "iterations", "checkpoint_every", "validate_every", "log_every"), (1, math.inf)),
    **dict.fromkeys(("warmup", "temperature"), (0, math.inf)),
    **dict.fromkeys(("baw_after", "graphics"), (0, 1)),
    "workers": (0, MAX_WORKERS), "seed": (0, MAX_SEED), "learning_rate": (0, MAX_LEARNING_RATE),
}  # fmt: skip
"""Smallest and largest value of a setting."""
SHIPPED = pathlib.Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights a run ends with, but for the pictures.

    Attributes:
        model: structure of the network; in TOML, `arch` in [model] names an architecture other than bdflow.
        start_from: name or folder of a trained model whose weights the network starts with (`training.initial`).
        loss: weights of the five losses; a loss of weight 0 is not computed.
        lpips_weights: .npz of LPIPS (AlexNet), in TOML a key of [loss]; None looks in the folder BDFLOW_DATA names.
        baw_after: share of the run after which the boundary-aware weight sets in (0.3 in the paper, eq. 4); 1 is never.
        crop: side of the square HR crops in pixels, a multiple of the scale.
        batch: crops per step and process.
        graphics: share of the crops that get something drawn over that photographs lack: lines, text, charts, facades,
            flat colours, gradients (`training.graphics`); networks that saw none overshoot there
            (docs/research/quality.md).
        iterations: length of the cosine schedule when it goes by iterations.
        optimizer: "adam" as in the paper, or "muon", which gets further in the same number of steps.
        learning_rate, final_learning_rate: where the cosine starts and ends.
        temperature: of Z on the way back while training; 0 is Z = 0.
        codec: "jpeg" sends the LR picture through a JPEG file on its way back, for weights that withstand one; the
            boundary map stays exact.
        codec_gradient: "straight-through" past the real libjpeg, or of a "differentiable" JPEG (`training.codec`).
        codec_lowest_quality, codec_highest_quality: range of the JPEG quality, which is drawn for every batch.
        warmup: steps over which the learning rate rises from 0.
        clip: largest norm of the gradient; longer ones are scaled to it.
        ema: decay of the averaged weights that are validated and published.
        checkpoint_gradients: recompute each block in the backward pass instead of keeping its activations.
        execution: "compiled" has torch.compile fuse both directions, which takes a minute and a C++ compiler. Meant for
            GPUs: on a CPU it was slower. The last bits of the weights then depend on the version of PyTorch. "graphed"
            replays loss and gradients as one CUDA graph: one GPU, Z = 0.
        precision: "bf16" runs the convolutions in bfloat16 (weights, couplings and losses stay float32).
        seed: of the initial weights and of every crop.
        workers: processes that cut crops.
        checkpoint_every, validate_every, log_every: in steps.
    """

    model: Architecture = field(default_factory=BDFlowConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    start_from: str | None = None
    lpips_weights: str | None = None
    baw_after: float = 0.3
    crop: int = 96
    batch: int = 8
    graphics: float = 0.0
    iterations: int = 100_000
    optimizer: OptimizerName = "adam"
    learning_rate: float = 2e-4
    final_learning_rate: float = 1e-6
    temperature: float = 0.0
    codec: Codec = "none"
    codec_gradient: CodecGradient = "straight-through"
    codec_lowest_quality: int = 40
    codec_highest_quality: int = 95
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    checkpoint_gradients: bool = False
    execution: Execution = "eager"
    precision: Precision = "fp32"
    seed: int = 1
    workers: int = 1
    checkpoint_every: int = 500
    validate_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        self._check_types()
        if self.crop < (scale := self.model.interface().scale) or self.crop % scale:
            raise TrainingConfigError(f"crop is {self.crop}; it must be a multiple of the scale {scale}.")
        for name, known in CHOICES.items():
            if getattr(self, name) not in get_args(known):
                allowed = " or ".join(map(repr, get_args(known)))
                raise TrainingConfigError(f"{name} is {getattr(self, name)!r}; it must be {allowed}.")
        for name, (least, most) in RANGES.items():
            if not least <= (value := getattr(self, name)) <= most:
                bound = f"at least {least}" if value < least else f"at most {most}"
                raise TrainingConfigError(f"{name} is {value}; it must be {bound}.")
        if self.batch * self.crop**2 > MAX_CROP_PIXELS:
            raise TrainingConfigError(
                f"batch is {self.batch} and crop {self.crop}, {self.batch * self.crop**2:,} pixels; at most "
                f"{MAX_CROP_PIXELS:,} are allowed."
            )
        if not 0 < self.final_learning_rate <= self.learning_rate:
            raise TrainingConfigError(
                f"learning_rate is {self.learning_rate} and final_learning_rate {self.final_learning_rate}; "
                "0 < final <= first is needed."
            )
        if not 1 <= self.codec_lowest_quality <= self.codec_highest_quality <= 100:
            raise TrainingConfigError(
                f"codec_lowest_quality is {self.codec_lowest_quality} and codec_highest_quality "
                f"{self.codec_highest_quality}; 1 <= lowest <= highest <= 100 is needed."
            )
        if self.codec != "none" and self.execution == "graphed":
            raise TrainingConfigError(
                f"codec is {self.codec!r} and execution 'graphed', which replays the same step and writes no files; "
                'set codec = "none", or execution = "eager".'
            )
        if self.execution == "graphed" and self.temperature:
            raise TrainingConfigError(
                f"temperature is {self.temperature} and execution 'graphed', which replays the same step and draws no "
                'Z; set temperature = 0, or execution = "eager".'
            )
        if not 0 <= self.ema < 1 or self.clip <= 0:
            raise TrainingConfigError(f"ema is {self.ema} and clip {self.clip}; 0 <= ema < 1 and clip > 0 are needed.")

    def _check_types(self) -> None:
        """TOML gives whatever was typed: 96.0 or "96" for a whole number would only fail somewhere deep inside."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.type == "int":
                fits, wanted = type(value) is int, "a whole number"
            elif item.type == "float":
                fits, wanted = type(value) in (int, float) and math.isfinite(value), "a finite number"
            elif item.type == "bool":
                fits, wanted = type(value) is bool, "true or false"
            elif item.type == "str | None":
                fits, wanted = value is None or type(value) is str, "a name or a path"
            else:
                continue
            if not fits:
                raise TrainingConfigError(f"{item.name} is {value!r}; it must be {wanted}.")

    def baw_active(self, progress: float) -> bool:
        """Whether edges weigh more in the reconstruction loss at this progress 0..1 of the run (paper, eq. 4)."""
        return self.loss.baw and self.loss.reconstruction > 0 and self.baw_after < 1 and progress >= self.baw_after

    def rate(self, *, step: int, progress: float) -> float:
        """The learning rate: a cosine over progress 0..1 of the run, after a linear warm-up by steps."""
        span = self.learning_rate - self.final_learning_rate
        cosine = self.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2
        return cosine * min(1.0, (step + 1) / (self.warmup + 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as stored in checkpoints and model cards."""
        data = {**dataclasses.asdict(self), "model": {"arch": self.model.arch, **self.model.to_dict()}}
        weights = data.pop("lpips_weights")
        return data if weights is None else {**data, "loss": {**data["loss"], "lpips_weights": weights}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote, or a parsed TOML file.

        Raises:
            TrainingConfigError: an unknown key, a wrong type or an impossible value.
        """
        data = dict(data)
        model, loss = data.pop("model", {}), data.pop("loss", {})
        for name, table in (("model", model), ("loss", loss)):
            if not isinstance(table, dict):
                raise TrainingConfigError(f"{name} is {table!r}; it must be a table of keys, [{name}].")
        model, loss = dict(model), dict(loss)
        weights = loss.pop("lpips_weights", None)
        check_keys("the training configuration", data, set(_names(cls)) - {"model", "loss", "lpips_weights"})
        check_keys("[loss]", loss, {*_names(LossWeights), "lpips_weights"})
        try:
            network = find_architecture(model.pop("arch", BDFlowConfig.arch)).from_dict(model)
            return cls(model=network, loss=LossWeights(**loss), lpips_weights=weights, **data)
        except (TypeError, AttributeError, ModelConfigError, ModelVersionError) as error:
            raise TrainingConfigError(f"The training configuration is at fault: {error}") from None

    @classmethod
    def find(cls, name: str) -> TrainConfig:
        """Read a TOML file by its path, or one that ships by its name.

        Raises:
            TrainingConfigError: there is none, or it is at fault.
        """
        path = pathlib.Path(name)
        if not path.is_file():
            path = SHIPPED / f"{name}.toml"
        if not path.is_file():
            raise TrainingConfigError(
                f"There is no training configuration {name!r}. Give the path of a TOML file, or one of: "
                f"{', '.join(shipped_configs())}."
            )
        return cls.from_dict(read_toml(path))


def read_toml(path: pathlib.Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        TrainingConfigError: it is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingConfigError(f"{path} cannot be read as a training configuration: {error}") from None


def shipped_configs() -> list[str]:
    """Names of the configurations that ship with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def _names(kind: type) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def check_keys(place: str, data: dict[str, Any], known: set[str]) -> None:
    """Raise TrainingConfigError where a table has a key that is not known, such as a misspelt one."""
    if unknown := sorted(set(data) - known):
        raise TrainingConfigError(f"Unknown key {unknown[0]!r} in {place}; known: {', '.join(sorted(known))}.")
