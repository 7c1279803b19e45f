"""Weights back into an engine that was built without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bdflow_rt.engines.engine import Flavour
from bdflow_rt.engines.tensorrt_library import load_library
from bdflow_rt.errors import EngineBuildError
from bdflow_rt.export.flavours import flavour_info, flavour_logger
from bdflow_rt.export.onnx import GraphKind, build_graph
from bdflow_rt.export.precision import build_half_graph
from bdflow_rt.export.staging import staged_graph
from bdflow_rt.zoo.card import Direction, ModelCard

if TYPE_CHECKING:
    import tensorrt

    from bdflow_rt.export.tensorrt import EnginePrecision


def refit_engine(
    engine: Any, card: ModelCard, direction: Direction, *, kind: GraphKind, flavour: Flavour, precision: EnginePrecision
) -> None:
    """Give a stripped engine the model's weights, before its first context is made.

    Args:
        engine: ICudaEngine of an engine that was built with `strip` from this very model; needs a GPU.
        card, direction, kind, flavour, precision: as it was built.

    Raises:
        CorruptModelError, WeightsHashError, DiskFullError: as `staged_graph`.
        EngineBuildError: TensorRT does not take the weights.
    """
    api = load_library(flavour_info(flavour).name)
    graph = (build_half_graph if precision == "fp16" else build_graph)(card, direction, kind=kind)
    logger = flavour_logger(api)
    refitter: tensorrt.Refitter = api.Refitter(engine, logger)
    parser: tensorrt.OnnxParserRefitter = api.OnnxParserRefitter(refitter, logger)
    with staged_graph(graph, card) as path:
        done = parser.refit_from_file(str(path)) and refitter.refit_cuda_engine()
    if not done:
        missing = ", ".join(refitter.get_missing_weights()[:3]) or "none is missing"
        raise EngineBuildError(
            f"{api.__name__} {api.__version__} does not take the weights of {card.id} for the {direction} engine "
            f"({missing}). It was built from another graph: build it again."
        )
