"""Model configurations, cards and the models that ship with the package. Needs nothing but the standard library."""

from bdflow_rt.zoo.card import Direction, ModelCard
from bdflow_rt.zoo.config import BoundaryConfig, ModelConfig, paper_config
from bdflow_rt.zoo.registry import DEFAULT_MODEL, ModelInfo, find_model, find_model_by_hash, list_damaged, list_models

__all__ = [
    "DEFAULT_MODEL",
    "BoundaryConfig",
    "Direction",
    "ModelCard",
    "ModelConfig",
    "ModelInfo",
    "find_model",
    "find_model_by_hash",
    "list_damaged",
    "list_models",
    "paper_config",
]
