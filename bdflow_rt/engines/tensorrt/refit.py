"""A model's weights, put back into an engine that was built without them.

The engine calls a weight as the graph did, which is `zoo.weights.part_name` of the stored tensor, and takes it in the
type that it is stored in: what the graph makes of it, the engine does. So the bytes go in as they are, but for int8:
graphs of engines have float16 in its place, see `export.dequantize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bdflow_rt.engines.weights import part_values
from bdflow_rt.errors import EngineLoadError, EngineMismatchError
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.weights import index_weights, read_weights

if TYPE_CHECKING:
    import tensorrt

_NAMED = 3
"""Names in a message."""


def put_weights(
    engine: Any,
    card: ModelCard,
    *,
    library: Any,
    logger: Any,
    failure: Callable[[str, type[Exception], str], Exception],
) -> None:
    """Give a stripped engine its weights, before its first context is made.

    Args:
        engine: ICudaEngine whose plan was built from these very weights; its GPU is the current one.
        card: of the model.
        library: package of `load_library`.
        logger: ILogger that outlives this call.
        failure: makes the error of what happened, its class, and why; "" where the library has said why.

    Raises:
        CorruptModelError, WeightsHashError: the model's weights are missing or damaged.
        EngineMismatchError: the engine asks for weights that the model does not have, in another type or size, or
            for none at all.
        EngineLoadError, OutOfMemoryError: the library does not take them.
    """
    content = read_weights(card)
    index = index_weights(content, card.weights_path)
    refitter: tensorrt.Refitter = library.Refitter(engine, logger)
    names = refitter.get_all_weights()
    if not names:
        raise failure("takes no weights", EngineMismatchError, "its plan was not built to be given any")
    # The library takes addresses: the arrays have to be there until it has copied them.
    held = {name: values.reshape(-1) for name in names if (values := part_values(content, index, name)) is not None}
    if unknown := [name for name in names if name not in held]:
        raise failure(f"asks for the weights {_some(unknown)}", EngineMismatchError, f"{card.id} has none of that name")
    for name, values in held.items():
        weights: tensorrt.Weights = library.Weights(values)
        wanted = refitter.get_weights_prototype(name)
        if (wanted.dtype, wanted.size) != (weights.dtype, weights.size):
            found, asked = (f"{one.size} values of {one.dtype}" for one in (weights, wanted))
            raise failure(f"wants {asked} as {name!r}", EngineMismatchError, f"{card.id} has {found}")
        if not refitter.set_named_weights(name, weights):
            raise failure(f"does not take {name!r} of {card.id}", EngineLoadError, "")
    if missing := refitter.get_missing_weights():
        raise failure(f"misses the weights {_some(missing)}", EngineMismatchError, f"{card.id} has given all it has")
    if not refitter.refit_cuda_engine():
        raise failure(f"does not put the weights of {card.id} into its engine", EngineLoadError, "")
    held.clear()


def _some(names: list[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:_NAMED])
    return listed if len(names) <= _NAMED else f"{listed} and {len(names) - _NAMED} more"
