"""Model configurations, cards and the models that ship with the package. Needs nothing but the standard library."""

from bdflow_rt.zoo.arch.bdflow import BDFlowConfig, paper_config
from bdflow_rt.zoo.boundary import BoundaryConfig
from bdflow_rt.zoo.card import ModelCard, TrainingData
from bdflow_rt.zoo.interface import Direction
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
    "BDFlowConfig",
    "BoundaryConfig",
    "Direction",
    "ModelCard",
    "ModelInfo",
    "TrainingData",
    "find_model",
    "find_model_by_identity",
    "list_models",
    "list_problems",
    "paper_config",
]
