"""Model configurations, cards and the models that ship with the package. Needs nothing but the standard library."""

from bdflow_rt.zoo.card import Direction, ModelCard, TrainingData
from bdflow_rt.zoo.config import BoundaryConfig, ModelConfig, paper_config
from bdflow_rt.zoo.registry import (
    DEFAULT_MODEL,
    ModelInfo,
    find_model,
    find_model_by_identity,
    list_models,
    list_problems,
)

__all__ = [
    "DEFAULT_MODEL",
    "BoundaryConfig",
    "Direction",
    "ModelCard",
    "ModelConfig",
    "ModelInfo",
    "TrainingData",
    "find_model",
    "find_model_by_identity",
    "list_models",
    "list_problems",
    "paper_config",
]
