"""The enumerations of TensorRT that its stand-in has, and the logger."""

from __future__ import annotations

import enum
from typing import Any


class DataType(enum.Enum):
    FLOAT, HALF, INT32, UINT8 = 0, 1, 3, 5


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class TensorLocation(enum.Enum):
    DEVICE, HOST = 0, 1


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = 0, 1, 2


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY, EAGER, NONE = 0, 1, 2


class CudaGraphStrategy(enum.Enum):
    DISABLED, WHOLE_GRAPH_CAPTURE = 0, 1


class EngineValidity(enum.Enum):
    VALID, SUBOPTIMAL, INVALID = 0, 1, 2


class EngineInvalidityDiagnostics(enum.IntFlag):
    VERSION_MISMATCH, UNSUPPORTED_CC = 1, 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR = Severity.INTERNAL_ERROR, Severity.ERROR

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError
