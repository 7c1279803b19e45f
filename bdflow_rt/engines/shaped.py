"""One input size of an engine: its execution context, where its tensors lie, and its CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.gpu import CudaDevice, Graph
from bdflow_rt.engines.tensorrt.library import LoadedEngine
from bdflow_rt.errors import BackendError, EngineMismatchError, OutsideProfileError
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

if TYPE_CHECKING:
    import tensorrt

WORKSPACE = "workspace"
"""The buffer for the network's values in between."""
Tensor = tuple[tuple[int, ...], np.dtype[Any]]
Batch = tuple[int, int, int]
"""Pictures, and height and width in LR pixels: all that the shapes of a model's tensors hang on."""


def tensors_of(card: ModelCard, direction: Direction, batch: Batch) -> dict[str, Tensor]:
    """Shape and dtype of everything that has a buffer: the core graph's tensors, and the HR frames around it."""
    interface = card.interface
    names = {*interface.inputs(direction), *interface.outputs(direction), "planes"}
    return {
        name: (spec.shape(batch, interface.scale), np.dtype(spec.dtype))
        for name, spec in interface.tensors.items()
        if name in names
    }


def check_tensors(loaded: LoadedEngine, card: ModelCard, direction: Direction) -> None:
    """Refuse an engine that is not of this model's core graph, whatever its key says.

    Raises:
        EngineMismatchError: it has other inputs, outputs or dtypes.
    """
    inputs, outputs = (
        {name: np.dtype(spec.dtype) for name, spec in tensors.items()}
        for tensors in (
            card.interface.inputs(direction, kind="core"),
            card.interface.outputs(direction, kind="core"),
        )
    )
    if (loaded.inputs, loaded.outputs) != (inputs, outputs):
        actual, expected = (
            ", ".join(f"{name} {dtype}" for name, dtype in tensors.items())
            for tensors in (loaded.inputs | loaded.outputs, inputs | outputs)
        )
        raise EngineMismatchError(
            f"The {loaded.key} has the tensors {actual}; the core graph of {direction} of {card.id} has {expected}. "
            "Build it anew with `bdflow build`."
        )


def check_extents(loaded: LoadedEngine, shapes: Mapping[str, Tensor], card: ModelCard) -> None:
    """Refuse shapes that the engine was not built for.

    Raises:
        OutsideProfileError: says which profile, what it spans in HR pixels, and how to build another.
    """
    for name, extents in loaded.extents.items():
        shape = shapes[name][0]
        if not all(low <= size <= high for low, size, high in zip(extents[0], shape, extents[2], strict=True)):
            (few, low, narrow), (n, height, width), (many, high, wide) = (
                _pixels(name, one, card) for one in (extents[0], shape, extents[2])
            )
            profile = loaded.key.profile.partition(": ")[0]
            raise OutsideProfileError(
                f"{n} x {width}x{height} is outside the profile {profile!r} of the {loaded.key.flavour} engine, which "
                f"takes {few} to {many} pictures from {narrow}x{low} to {wide}x{high}. bdflow build {card.id} "
                f"--flavour {loaded.key.flavour} --profile {width}x{height} builds one that does."
            )


def size_range(loaded: LoadedEngine, card: ModelCard) -> tuple[Batch, Batch]:
    """The smallest and the largest batch that an engine takes."""
    scale = card.interface.scale
    spans = [
        ((few, -(-low // scale), -(-narrow // scale)), (many, high // scale, wide // scale))
        for name, extents in loaded.extents.items()
        for (few, low, narrow), (many, high, wide) in [tuple(_pixels(name, extents[index], card) for index in (0, 2))]
    ]
    smallest, largest = zip(*spans, strict=True)
    return tuple(map(max, zip(*smallest, strict=True))), tuple(map(min, zip(*largest, strict=True)))


def _pixels(name: str, shape: tuple[int, ...], card: ModelCard) -> tuple[int, int, int]:
    """Pictures, height and width in HR pixels, by a tensor's shape."""
    if name == "planes":
        side = 2 if card.interface.core_input == "haar" else 1
        return shape[0], side * shape[2], side * shape[3]
    n, (h, w) = shape[0], shape[2:4] if name == "latent" else shape[1:3]
    return n, h * card.interface.scale, w * card.interface.scale


class Buffers:
    """The engine's memory on the GPU and its pinned twin, by name; it grows and never shrinks.

    Every size of picture uses the beginnings of the same buffers: only one runs at a time.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._memory: dict[str, Any] = {}
        self._pinned: dict[str, NDArray[np.uint8]] = {}

    def has_room(self, sizes: Mapping[str, int]) -> bool:
        """Whether `fit` would leave every buffer where it is."""
        return all(size <= self._capacity(name) for name, size in sizes.items())

    def fit(self, sizes: Mapping[str, int]) -> None:
        """Make room, in bytes; a buffer that grows gets another address."""
        for name, size in sizes.items():
            if size > self._capacity(name):
                self._memory.pop(name, None)  # given back before the larger one is taken
                self._memory[name] = self._device.empty(size)

    def address(self, name: str) -> int:
        """Of a buffer."""
        return self._device.address(self._memory[name])

    def view(self, name: str, tensor: Tensor) -> Any:
        """A buffer as an array."""
        return self._device.view(self._memory[name], *tensor)

    def pinned(self, name: str, tensor: Tensor) -> NDArray[Any]:
        """Pinned memory for what goes to or comes from a buffer, as an array."""
        shape, dtype = tensor
        size = size_of(tensor)
        if name not in self._pinned or self._pinned[name].size < size:
            self._pinned[name] = self._device.pinned(size)
        return self._pinned[name][:size].view(dtype).reshape(shape)

    def clear(self) -> None:
        """Free everything."""
        self._memory.clear()
        self._pinned.clear()

    def _capacity(self, name: str) -> int:
        return int(self._memory[name].size) if name in self._memory else 0


def _order(name: str) -> tuple[bool, str]:
    """Pictures first."""
    return name not in ("planes", "lr"), name


def size_of(tensor: Tensor) -> int:
    """In bytes."""
    shape, dtype = tensor
    return math.prod(shape) * dtype.itemsize


@dataclass
class Shaped:
    """An execution context that is set for one size of input, and what was captured from it.

    TensorRT forbids changing a context from which a graph was captured, so every size has a context of its own.

    Attributes:
        context: the library's.
        loaded: the engine, which has to outlive its contexts wherever they are held.
        tensors: shape and dtype by name.
        inputs, outputs: names of what comes in and goes out, pictures first.
        workspace_bytes: that the context needs.
        graph: None before the first run, and where it runs without.
    """

    context: tensorrt.IExecutionContext
    loaded: LoadedEngine
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    workspace_bytes: int
    graph: Graph | None = None
    is_new: bool = True

    @classmethod
    def make(cls, loaded: LoadedEngine, tensors: dict[str, Tensor]) -> Shaped:
        """A context with its input shapes set.

        Raises:
            BackendError: the library refuses.
        """
        context = loaded.new_context()
        for name in loaded.inputs:
            if not context.set_input_shape(name, tensors[name][0]):
                raise loaded.failure(f"does not take {name} of shape {tensors[name][0]}", BackendError)
        if unknown := context.infer_shapes():
            raise loaded.failure(f"does not know the shapes of {', '.join(unknown)}", BackendError)
        for name in loaded.outputs:
            if (found := tuple(context.get_tensor_shape(name))) != tensors[name][0]:
                raise loaded.failure(f"makes {name} of shape {found}, not {tensors[name][0]}", EngineMismatchError)
        inputs, outputs = (
            tuple("image" if name == "planes" else name for name in sorted(names, key=_order) if name != "mean")
            for names in (loaded.inputs, loaded.outputs)
        )
        workspace_bytes = int(context.update_device_memory_size_for_shapes())
        return cls(context, loaded, tensors, inputs, outputs, workspace_bytes)

    def bind(self, buffers: Buffers) -> None:
        """Tell the context where everything lies.

        Raises:
            BackendError: the library refuses.
        """
        if self.workspace_bytes:
            self.context.set_device_memory(buffers.address(WORKSPACE), self.workspace_bytes)
        for name in (*self.loaded.inputs, *self.loaded.outputs):
            if not self.context.set_tensor_address(name, buffers.address(name)):
                raise self.loaded.failure(f"does not take the address of {name}", BackendError)
