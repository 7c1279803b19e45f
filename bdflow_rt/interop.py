"""GPU arrays and streams of other libraries, in and out without a copy.

Accepted are arrays of CuPy, PyTorch (by DLPack), everything else with `__dlpack__` on a CUDA device (JAX), and
everything with `__cuda_array_interface__` (PyCUDA, Numba). Inside, all of them are CuPy arrays over the same memory.

PyCUDA has to use the primary context, which CuPy and PyTorch use too: `import pycuda.autoprimaryctx`, not
`pycuda.autoinit`.

Source: DLPack 1.0; CUDA array interface version 3; CUDA stream protocol.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import (
    ArgumentError,
    BackendError,
    CudaUnavailableError,
    DeviceMismatchError,
    DTypeError,
    EmptyImageError,
    LayoutError,
    OutOfMemoryError,
    shorten,
)
from bdflow_rt.install import install_extra

if TYPE_CHECKING:
    import cupy

_CUPY = 14
"""Oldest CuPy with the stream protocol."""
_DLPACK_CPU = 1
_DLPACK_CUDA = (2, 13)
"""DLDeviceType: kDLCUDA and kDLCUDAManaged."""
_DEFAULT_STREAMS = (0, 1)
PER_THREAD_STREAM = 2
"""Address of CUDA's per-thread default stream."""
_MEMORY_ON_GPU = (2, 3)
"""cudaMemoryType: device and managed; 0 and 1 are the host's."""


def is_on_gpu(array: Any, *, name: str = "x") -> bool:
    """Whether an argument is a GPU array (True) or a NumPy array (False).

    Args:
        array: what was passed.
        name: of the argument, for the message.

    Raises:
        DeviceMismatchError: an array of another library in the host's memory.
        LayoutError: a masked array.
        ArgumentError: no array at all.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise LayoutError(f"{name} is masked, and kernels know no masks. Pass the plain array, `{name}.filled(...)`.")
    if isinstance(array, np.ndarray):
        return False
    if hasattr(array, "__dlpack_device__"):
        try:
            kind = int(array.__dlpack_device__()[0])
        except (BufferError, RuntimeError, ValueError):  # such as a meta tensor's
            kind = 0
        if kind in _DLPACK_CUDA:
            return True
        raise DeviceMismatchError(
            f"{name} is a {_kind(array)} {'in the memory of the CPU' if kind == _DLPACK_CPU else 'not on a CUDA GPU'}. "
            "Pass a NumPy array, or move it to the GPU."
        )
    if hasattr(array, "__cuda_array_interface__"):
        return True
    raise ArgumentError(
        f"{name} is a {_kind(array)}; it must be a NumPy array, or a GPU array of CuPy, PyTorch or any library with "
        "DLPack or __cuda_array_interface__."
    )


def is_gpu_array(array: Any) -> bool:
    """Whether something is an array of a GPU, with a shape and a dtype; never raises."""
    if isinstance(array, (np.ndarray, type)) or not hasattr(array, "dtype"):
        return False
    try:
        return is_on_gpu(array) and len(array.shape) >= 0
    except (ArgumentError, AttributeError, TypeError):
        return False


def check_gpu_bytes(name: str, array: Any) -> None:
    """Raise DTypeError unless a GPU array, of any library, is of uint8; `name` starts the message."""
    if str(array.dtype).rpartition(".")[2] != "uint8":  # PyTorch's are called torch.uint8
        raise DTypeError(f"{name} is {array.dtype}; it must be uint8.")


def from_host(array: Any) -> Any:
    """A NumPy array over an array of another library in the host's memory (DLPack); anything else as it is."""
    if isinstance(array, (np.ndarray, type)) or not hasattr(array, "__dlpack_device__") or is_gpu_array(array):
        return array
    try:
        return np.from_dlpack(array)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise LayoutError(f"A {_kind(array)} cannot be shared with NumPy: {shorten(error)}") from error


def to_host(array: Any) -> NDArray[Any]:
    """A GPU array's content as a new NumPy array, when it is there; a NumPy array as it is."""
    if isinstance(array, np.ndarray):
        return array
    if _is_torch(array):
        return np.asarray(array.detach().cpu())
    if hasattr(array, "get"):  # CuPy and PyCUDA
        return np.asarray(array.get())
    device = device_of(array)
    import cupy

    with cupy.cuda.Device(device):
        return np.asarray(borrow(array, stream=int(cupy.cuda.get_current_stream().ptr)).get())


def has_cuda() -> bool:
    """Whether CuPy is there and finds a GPU."""
    return _cuda_problem() is None


def require_cuda() -> None:
    """Check that CuPy is there and finds a GPU.

    Raises:
        CudaUnavailableError: it is not or does not; the message says which.
    """
    if (problem := _cuda_problem()) is not None:
        raise CudaUnavailableError(problem)


def device_of(array: Any) -> int:
    """Index of the GPU that holds a GPU array.

    Raises:
        CudaUnavailableError: there is no GPU here.
        DeviceMismatchError: what claims to be a GPU array is in the host's memory.
        EmptyImageError: it has no elements, and so no memory.
    """
    require_cuda()
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[1])
    interface = array.__cuda_array_interface__
    if 0 in interface["shape"]:
        raise EmptyImageError(f"A {_kind(array)} has shape {tuple(interface['shape'])} and so no elements.")
    return _device_of_pointer(interface["data"][0], type(array).__name__)


def borrow(array: Any, *, stream: int, name: str = "x", writable: bool = False) -> cupy.ndarray:
    """A GPU array as a CuPy array over the same memory.

    Work on `stream` waits for what the current stream of the array's library has queued, as far as the library says
    which that is: CuPy, PyTorch and others with DLPack do. The host does not wait.

    Args:
        array: on the current device.
        stream: address of the CUDA stream on which the array will be used.
        name: of the argument, for messages.
        writable: it will be written.

    Raises:
        LayoutError: a masked array, one whose elements CuPy does not know, or one that must not be written and will be.
        DeviceMismatchError: memory of the host.
    """
    import cupy

    if isinstance(array, cupy.ndarray):
        _wait_for(int(cupy.cuda.get_current_stream().ptr), stream)
        return array
    interface = None if _is_torch(array) else getattr(array, "__cuda_array_interface__", None)
    if writable and not _is_torch(array) and (interface is None or interface["data"][1]):
        raise LayoutError(f"{name}, a {_kind(array)}, is or may be read-only. Pass an array of CuPy or PyTorch.")
    if interface is not None:
        return _from_interface(array, stream=stream, name=name)
    source = array.detach() if _is_torch(array) else array
    try:
        with as_cupy_stream(stream):
            return cupy.from_dlpack(source)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            f"CUDA failed at {name}: {shorten(error)}. A fault of earlier work on this GPU shows here."
        ) from error
    except (AssertionError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise LayoutError(f"{name}, a {_kind(array)}, cannot be shared with CuPy: {shorten(error)}") from error


def empty_like_library(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *, stream: int) -> Any:
    """New memory on the current device, allocated for a stream: a PyTorch tensor where `array` is one, else CuPy's.

    Raises:
        OutOfMemoryError: there is not enough of it.
    """
    import cupy

    size = math.prod(shape) * dtype.itemsize
    if not _is_torch(array):
        try:
            with as_cupy_stream(stream):
                return cupy.empty(shape, dtype)
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise _out_of_memory(size, error) from error
    torch = sys.modules["torch"]
    try:
        with torch.cuda.stream(torch_stream(stream, array.device)):
            return torch.empty(shape, dtype=getattr(torch, dtype.name), device=array.device)
    except torch.cuda.OutOfMemoryError as error:
        raise _out_of_memory(size, error) from error


def torch_stream(address: int, device: Any) -> Any:
    """A CUDA stream as PyTorch's, for `with torch.cuda.stream(...)`."""
    torch = sys.modules["torch"]
    current = torch.cuda.current_stream(device)
    if address == current.cuda_stream:
        return current
    if address in _DEFAULT_STREAMS:  # for these, ExternalStream would take another stream each time
        return torch.cuda.default_stream(device)
    return torch.cuda.ExternalStream(address, device=device)


def stream_address(stream: Any, *, array: Any, device: int) -> int:
    """The CUDA stream to work on.

    Args:
        stream: None, the address of a stream, or a stream of CuPy, PyTorch, PyCUDA, or anything with
            `__cuda_stream__`. None is the current stream of the library that `array` comes from; CuPy's for all
            but PyTorch.
        array: decides what None means.
        device: that the stream must belong to.

    Raises:
        ArgumentError: not a stream.
        DeviceMismatchError: the stream belongs to another GPU.
    """
    if stream is None:
        if _is_torch(array):
            return int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)
        import cupy

        return int(cupy.cuda.get_current_stream(device).ptr)
    owner = getattr(stream, "device_id", None)
    if owner is None:
        owner = getattr(getattr(stream, "device", None), "index", None)
    if owner is not None and owner not in (-1, device):
        raise DeviceMismatchError(
            f"The stream belongs to GPU {owner}, the arrays to GPU {device}. Pass one of its own."
        )
    found = _address_of(stream)
    if found == PER_THREAD_STREAM and _is_torch(array):
        raise ArgumentError("PyTorch cannot work on CUDA's per-thread default stream (2). Pass another one, or None.")
    if found is not None:
        return found
    raise ArgumentError(
        f"stream is {stream!r}; it must be None, the address of a CUDA stream, or a stream of CuPy, PyTorch or PyCUDA."
    )


def _address_of(stream: Any) -> int | None:
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream if 0 <= stream < 1 << 63 else None
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("ptr", "cuda_stream", "handle"):  # CuPy, PyTorch, PyCUDA
        if isinstance(found := getattr(stream, attribute, None), int):
            return found
    return None


def as_cupy_stream(address: int) -> Any:
    """A CUDA stream as CuPy's, for `with`: CuPy allocates and works on it inside."""
    import cupy

    return cupy.cuda.Stream.from_external(_StreamAt(address))


class _StreamAt:
    """An address in the dress of the CUDA stream protocol."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


def _kind(array: Any) -> str:
    return f"{type(array).__module__}.{type(array).__qualname__}"


def _is_torch(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _from_interface(array: Any, *, stream: int, name: str) -> cupy.ndarray:
    """By hand, because CuPy's own import makes the host wait for the producer's stream."""
    import cupy

    interface = array.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise LayoutError(f"{name}, a {_kind(array)}, is masked. Pass the plain array.")
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    if not dtype.isnative:
        raise LayoutError(
            f"{name}, a {_kind(array)}, has {dtype.str} elements. Convert it to the machine's byte order."
        )
    address = int(interface["data"][0])
    device = _device_of_pointer(address, name)
    steps = interface.get("strides") or _contiguous(shape, dtype.itemsize)
    # Extent in bytes: kernels check for overlap by it, CuPy does not look at it.
    extent = sum((length - 1) * abs(step) for length, step in zip(shape, steps, strict=True)) + dtype.itemsize
    memory = cupy.cuda.UnownedMemory(address, extent, array, device)
    if interface.get("stream") is not None:
        _wait_for(int(interface["stream"]), stream)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0), strides=tuple(steps))


def _wait_for(producer: int, stream: int) -> None:
    """Let a stream wait for what another has queued; the two names of the default stream are one."""
    import cupy

    if producer == stream or {producer, stream} <= set(_DEFAULT_STREAMS):
        return
    event = cupy.cuda.Event(disable_timing=True)
    event.record(as_cupy_stream(producer))
    as_cupy_stream(stream).wait_event(event)


def _out_of_memory(size: int, error: Exception) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"The GPU has no room for {size} bytes more ({shorten(error)}). Use smaller batches or free memory."
    )


def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    steps, step = [], itemsize
    for length in reversed(shape):
        steps.append(step)
        step *= length
    return tuple(reversed(steps))


def _device_of_pointer(address: int, name: str) -> int:
    from cupy.cuda import runtime

    attributes = runtime.pointerGetAttributes(address)
    if attributes.type not in _MEMORY_ON_GPU:
        raise DeviceMismatchError(
            f"{name} says it is a GPU array, but its address {address:#x} is in the host's memory. Copy it to the GPU."
        )
    return int(attributes.device)


def check_context() -> None:
    """Check that the current context is the GPU's primary one, in which CuPy's and PyTorch's memory is.

    Raises:
        DeviceMismatchError: PyCUDA has made one of its own current.
    """
    if "pycuda" not in sys.modules:
        return
    driver = ctypes.CDLL("libcuda.so.1")
    current, primary, device = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
    if driver.cuCtxGetCurrent(ctypes.byref(current)) or not current.value:
        return  # none yet: CuPy will take the primary one
    driver.cuCtxGetDevice(ctypes.byref(device))
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(primary), device)
    driver.cuDevicePrimaryCtxRelease_v2(device)
    if current.value != primary.value:
        raise DeviceMismatchError(
            "PyCUDA's current context is not the GPU's primary one, which CuPy and PyTorch use. "
            "Import pycuda.autoprimaryctx instead of pycuda.autoinit, or retain the primary context."
        )


@functools.lru_cache(maxsize=1)
def _cuda_problem() -> str | None:
    try:
        import cupy
        from cupy.cuda import runtime
    except (ImportError, OSError) as error:
        return f"GPU arrays need CuPy, which cannot be imported ({shorten(error)}): {install_extra('cuda')}"
    if int(cupy.__version__.partition(".")[0]) < _CUPY:
        return f"GPU arrays need CuPy {_CUPY} or newer, this is {cupy.__version__}: {install_extra('cuda')}"
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return f"CUDA finds no usable NVIDIA driver ({shorten(error)}). Install or update the driver."
    return None if count else "CUDA finds no GPU. Check with `nvidia-smi` which ones the driver finds."
