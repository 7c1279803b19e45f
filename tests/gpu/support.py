"""What the GPU tests share: every kernel function with its inputs, arrays of every library, graphs and slow streams."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt import kernels
from bdflow_rt.bench.gpu_timer import SPIN
from bdflow_rt.interop import as_cupy_stream
from tests.support import photo

FUNCTIONS = (
    "haar_forward", "haar_inverse", "ingest", "ingest_nv12", "egress", "egress_nv12", "boundary_mask",
    "sparse_magnitude", "pack_bits", "unpack_bits",
)  # fmt: skip
"""Every public function that has a kernel."""
LIBRARIES = ("cupy", "torch", "dlpack", "interface")
KERNEL_NODE = 0
"""CUgraphNodeType of a kernel launch."""
_SPIN_CYCLES = 60_000_000
"""Some 30 ms: far longer than the host needs to queue the work of a test."""


@dataclass(frozen=True)
class Case:
    """One public function with inputs that suit it.

    Attributes:
        name: for the test's id.
        function: called with arrays, `out` and `stream`; its options are bound.
        inputs: NumPy arrays.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[NDArray[Any], ...]

    def __call__(self, *inputs: Any, out: Any = None, **stream: Any) -> tuple[Any, ...]:
        """The outputs, a tuple also where there is one."""
        pair = isinstance(out, tuple)
        result = self.function(*inputs, out=out if pair or out is None else out[0], **stream)
        return result if isinstance(result, tuple) else (result,)

    def into(self, outputs: list[Any]) -> Any:
        """What `out` has to be for these outputs."""
        return tuple(outputs) if len(outputs) > 1 else outputs

    def expected(self) -> tuple[NDArray[Any], ...]:
        """What the NumPy twin returns."""
        return self(*self.inputs)


def frames(n: int, height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8 pictures, all different."""
    return np.stack([photo(height, width, seed + index) for index in range(n)])


def noise(*shape: int, dtype: Any = np.float16, seed: int = 0) -> NDArray[Any]:
    """Normal noise around 0.5."""
    return np.random.default_rng(seed).normal(0.5, 0.3, shape).astype(dtype)


def levels(*shape: int, top: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """Uniform integers below `top`."""
    return np.random.default_rng(seed).integers(0, top, shape, np.uint8)


def cases(n: int, height: int, width: int) -> list[Case]:
    """Every function for n pictures; odd sizes are rounded up to even ones where a function wants them even."""
    even_h, even_w, half_h, half_w = height + height % 2, width + width % 2, -(-height // 2), -(-width // 2)
    rgb, planar = frames(n, height, width), noise(n, 3, height, width).clip(0, 1)
    nv12 = levels(n, height, width), levels(n, half_h, half_w, 2, seed=1)
    bands = noise(n, 12, half_h, half_w, seed=2)
    crop = {"height": height, "width": width}
    made = [
        Case("haar_forward-half", kernels.haar_forward, (noise(n, 3, even_h, even_w),)),
        Case("haar_forward-float", kernels.haar_forward, (noise(n, 5, even_h, even_w, dtype=np.float32),)),
        Case("haar_inverse-half", kernels.haar_inverse, (bands,)),
        Case("haar_inverse-float", kernels.haar_inverse, (bands.astype(np.float32),)),
        Case("ingest", kernels.ingest, (rgb,)),
        Case("ingest-x8-float", functools.partial(kernels.ingest, multiple=8, dtype="float32"), (rgb,)),
        Case("ingest_nv12", kernels.ingest_nv12, nv12),
        Case("ingest_nv12-601-full", functools.partial(kernels.ingest_nv12, matrix="bt601", levels="full"), nv12),
        Case("egress", functools.partial(kernels.egress, **crop), (bands,)),
        Case("egress-float", functools.partial(kernels.egress, **crop), (bands.astype(np.float32),)),
        Case("egress_nv12", functools.partial(kernels.egress_nv12, **crop), (bands,)),
    ]
    for bits, norm, cell in ((1, 2, 1), (1, 1, 4), (3, 2, 1), (2, 1, 8), (8, 2, 2)):
        options = {"bits": bits, "norm": norm, "cell": cell}
        mask = functools.partial(kernels.boundary_mask, **options)
        name = f"boundary_mask-{bits}bit-norm{norm}-cell{cell}"
        made += [Case(name, mask, (rgb,)), Case(f"{name}-grey", mask, (rgb[..., :1].copy(),))]
        made += [Case(f"{name}-planar", mask, (planar,))]
    for norm in (1, 2):
        made += [Case(f"sparse_magnitude-norm{norm}", functools.partial(kernels.sparse_magnitude, norm=norm), (rgb,))]
    for bits in (1, 3, 8):
        map_ = levels(n, height, width, top=1 << bits, seed=bits)
        packed = kernels.pack_bits(map_, bits=bits)
        made += [Case(f"pack_bits-{bits}", functools.partial(kernels.pack_bits, bits=bits), (map_,))]
        made += [Case(f"unpack_bits-{bits}", functools.partial(kernels.unpack_bits, bits=bits, **crop), (packed,))]
    return made


@functools.cache
def one_each() -> dict[str, Case]:
    """The first case of each of FUNCTIONS, for what does not depend on options."""
    first: dict[str, Case] = {}
    for case in cases(2, 37, 54):
        first.setdefault(case.name.partition("-")[0], case)
    assert set(first) == set(FUNCTIONS)
    return first


class OnlyInterface:
    """An array of a library that has `__cuda_array_interface__` and nothing else."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self._array = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


class OnlyDLPack:
    """An array of a library that has DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        """As CuPy's."""
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        """As CuPy's."""
        return self._array.__dlpack_device__()


def on_gpu(array: NDArray[Any], library: str = "cupy") -> Any:
    """A NumPy array as a GPU array of a library of `LIBRARIES`."""
    if library == "torch":
        import torch

        return torch.from_numpy(array.copy(order="C")).cuda()
    import cupy

    made = cupy.array(array, order="C")
    return {"cupy": lambda x: x, "dlpack": OnlyDLPack, "interface": OnlyInterface}[library](made)


def on_host(array: Any) -> NDArray[Any]:
    """A GPU array of CuPy or torch as a NumPy array, when all work on the GPU is done."""
    import cupy

    cupy.cuda.runtime.deviceSynchronize()
    return array.get() if isinstance(array, cupy.ndarray) else array.cpu().numpy()


def empty_like_expected(case: Case, library: str = "cupy") -> list[Any]:
    """Outputs for a case, filled with what no kernel writes everywhere."""
    return [on_gpu(np.full(array.shape, 77, array.dtype), library) for array in case.expected()]


def assert_results(case: Case, found: tuple[Any, ...] | list[Any], *, wanted: Any = None) -> None:
    """Every bit as the twin's."""
    expected = case.expected() if wanted is None else wanted
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        host = on_host(one)
        assert host.dtype == other.dtype
        np.testing.assert_array_equal(host, other, err_msg=case.name)


@functools.cache
def _spin() -> Any:
    import cupy

    return cupy.RawKernel(SPIN, "spin")


def stall(stream: int) -> None:
    """Keep a stream, given by its address, busy for some 30 ms."""
    with as_cupy_stream(stream):
        _spin()((1,), (1,), (np.int64(_SPIN_CYCLES),))


class Capture:
    """A CUDA graph captured from a stream in the strictest mode, which fails on allocations and synchronisation.

    Through the driver itself: CuPy and torch may let go of the graph when they have instantiated it.
    """

    def __init__(self, stream: int, work: Callable[[], Any]) -> None:
        self._driver, self._stream = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(stream)
        self._graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, 0)
        try:
            work()
        finally:
            status = self._driver.cuStreamEndCapture(self._stream, ctypes.byref(self._graph))
        assert status == 0, f"the capture was invalidated: {status}"

    def node_types(self) -> list[int]:
        """CUgraphNodeType of every node."""
        count = ctypes.c_size_t()
        self._call("cuGraphGetNodes", self._graph, None, ctypes.byref(count))
        nodes = (ctypes.c_void_p * count.value)()
        self._call("cuGraphGetNodes", self._graph, nodes, ctypes.byref(count))
        types = []
        for node in nodes:
            kind = ctypes.c_int(-1)
            self._call("cuGraphNodeGetType", ctypes.c_void_p(node), ctypes.byref(kind))
            types.append(kind.value)
        return types

    def replay(self) -> None:
        """Run the graph once, and wait for it."""
        executable = ctypes.c_void_p()
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), self._graph, ctypes.c_ulonglong(0))
        self._call("cuGraphLaunch", executable, self._stream)
        self._call("cuStreamSynchronize", self._stream)
        self._call("cuGraphExecDestroy", executable)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        assert status == 0, f"{name} returned CUresult {status}"
