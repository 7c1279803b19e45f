"""How the stand-in for TensorRT takes weights: every one, in its type and size, from memory that is still there."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.engines.standin_gpu import ContractError
from tests.engines.standin_types import DataType, ILogger

if TYPE_CHECKING:
    from tests.engines.standin import ICudaEngine, StandInLibrary


class Weights:
    """A view of an array that nobody keeps for it."""

    def __init__(self, a: NDArray[Any]) -> None:
        if not (a.flags.c_contiguous and a.flags.aligned):
            raise ContractError("weights are one run of aligned values")
        self.dtype, self.size = _weights_type(a.dtype), a.size
        self._array = weakref.ref(a)

    def numpy(self) -> NDArray[Any]:
        array = self._array()
        if array is None:
            raise ContractError("weights were freed before they were put in")
        return array


class Refitter:
    def __init__(self, library: StandInLibrary, engine: ICudaEngine, logger: ILogger) -> None:
        self._library, self._engine, self._logger = library, engine, weakref.ref(logger)
        self._stored = engine.stored()
        self._given: dict[str, Weights] = {}

    def get_all_weights(self) -> list[str]:
        return list(self._stored)

    def get_missing_weights(self) -> list[str]:
        return [name for name in self._stored if name not in self._given] + [""] * self._library.has_unnamed_weights

    def get_weights_prototype(self, weights_name: str) -> Any:
        tensor = self._stored.get(weights_name)
        if tensor is None:
            return SimpleNamespace(dtype=DataType.FLOAT, size=-1)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return SimpleNamespace(dtype=_weights_type(dtype), size=int(np.prod(tensor.dims)))

    def set_named_weights(self, name: str, weights: Weights) -> bool:
        wanted = self.get_weights_prototype(name)
        if (wanted.dtype, wanted.size) != (weights.dtype, weights.size) or "set_named_weights" in self._library.refuse:
            return self._error(self._library.refuse.get("set_named_weights", f"{name} has another type or size"))
        self._given[name] = weights
        return True

    def refit_cuda_engine(self) -> bool:
        if self.get_missing_weights() or "refit_cuda_engine" in self._library.refuse:
            return self._error(self._library.refuse.get("refit_cuda_engine", "weights are missing"))
        self._engine.refit({name: weights.numpy() for name, weights in self._given.items()})
        return True

    def _error(self, text: str) -> bool:
        logger = self._logger()
        if logger is None:
            raise ContractError("the logger was freed before the refitter")
        logger.log(ILogger.ERROR, text)
        return False


def _weights_type(dtype: np.dtype[Any]) -> DataType:
    return {np.dtype(np.float16): DataType.HALF, np.dtype(np.float32): DataType.FLOAT}[dtype]
