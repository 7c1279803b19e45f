"""What is known of each backend before anything of it is loaded: one record that everybody reads."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from bdflow_rt.errors import BackendUnavailableError, shorten
from bdflow_rt.fork import enter_library
from bdflow_rt.install import install_extra
from bdflow_rt.options import Backend, Precision
from bdflow_rt.quiet import import_quietly

if TYPE_CHECKING:
    from bdflow_rt.engines.engine import Engine
    from bdflow_rt.zoo.card import ModelCard
    from bdflow_rt.zoo.interface import Direction

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class BackendInfo:
    """One backend.

    Attributes:
        name: as options say it.
        title: as people write it.
        package: that is imported.
        extra: of bdflow-rt, which brings it; None for what a plain installation has.
        precisions: what it computes in on each kind of device that it has, the fastest first, the default last.
        module: whose `open_engine` takes a card and a direction, and by name `backend`, `device`, `precision` and
            `threads`, and gives an `Engine`.
        memory_factor: working memory per LR pixel, as a multiple of `ModelInterface.activation_bytes`.
        builds_first: its engines are built beforehand and kept in a cache.
    """

    name: Backend
    title: str
    package: str
    extra: str | None
    precisions: dict[Kind, tuple[Precision, ...]]
    module: str
    memory_factor: int = 1
    builds_first: bool = False

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install {self.package}" if self.extra is None else install_extra(self.extra)

    @property
    def default_device(self) -> Kind:
        """The kind of device that it runs on where none is named."""
        return "cpu" if "cpu" in self.precisions else "cuda"

    @property
    def is_installed(self) -> bool:
        """Whether its package is there; nothing is imported."""
        found = importlib.util.find_spec(self.package)
        return found is not None and found.origin is not None  # type stubs make a folder of TensorRT's name, no code

    def load(self) -> Any:
        """Import its package, with which this process will compute.

        Raises:
            BackendUnavailableError: it is not installed or does not load.
            ForkedProcessError: this process was forked from one that had used it.
        """
        if not self.is_installed:
            raise BackendUnavailableError(f"The {self.name} backend is not installed: {self.install}")
        self.enter()
        try:
            return import_quietly(self.package)
        except (ImportError, OSError, RuntimeError) as error:
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            raise BackendUnavailableError(
                f"The {self.name} backend is installed, but does not load ({shorten(error)}). Install it again: "
                f"{self.install}"
            ) from error

    def enter(self) -> None:
        """State that this process computes with it, before any lock is taken for it.

        Raises:
            ForkedProcessError: this process was forked from one that had used it.
        """
        enter_library(self.name, self.title)

    def open(
        self, card: ModelCard, direction: Direction, *, device: str, precision: Precision, threads: int | None
    ) -> Engine:
        """Load one direction of a model; arguments and errors as for `select.open_engine`."""
        self.load()
        opened = importlib.import_module(self.module).open_engine(
            card, direction, backend=self.name, device=device, precision=precision, threads=threads
        )
        return cast("Engine", opened)


def _is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an import that failed: modules in C++ report it as an error of their own."""
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(error, KeyboardInterrupt):
        error = cause
    return isinstance(error, KeyboardInterrupt)


_TENSORRT = "bdflow_rt.engines.tensorrt.engine"
BACKENDS: dict[Backend, BackendInfo] = {
    info.name: info
    for info in (
        BackendInfo(
            "openvino", "OpenVINO", "openvino", None, {"cpu": ("bf16", "fp32")},
            "bdflow_rt.engines.openvino",
        ),
        BackendInfo(
            "torch", "PyTorch", "torch", "train",
            {"cpu": ("fp32",), "cuda": ("fp16", "fp32")}, "bdflow_rt.engines.torch.engine",
            memory_factor=2,  # at most, and it varies more than OpenVINO's
        ),
        BackendInfo(
            "tensorrt", "TensorRT", "tensorrt", "tensorrt", {"cuda": ("fp16",)},
            _TENSORRT, builds_first=True,
        ),
        BackendInfo(
            "tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", "tensorrt-rtx",
            {"cuda": ("fp16",)}, _TENSORRT, builds_first=True,
        ),
    )
}  # fmt: skip
"""In the order in which "auto" takes the first on a CPU, and lists show them."""
