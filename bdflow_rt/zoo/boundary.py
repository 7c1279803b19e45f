"""How the boundary-aware mask of a network is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bdflow_rt.errors import ModelConfigError


@dataclass(frozen=True)
class BoundaryConfig:
    """How the boundary-aware mask is made (training target of the boundary channel, and source of BAW).

    `threshold`, `norm`, `saturation`: steps 4, 6 and 7 of the mask. `source`: "hr" takes the maximum over each
    scale x scale cell of the HR mask; "lr" computes the mask on the LR picture.
    """

    threshold: int = 50
    norm: Literal[1, 2] = 2
    saturation: int = 255
    source: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        if self.norm not in (1, 2) or isinstance(self.norm, (bool, float)):
            raise ModelConfigError(f"boundary.norm is {self.norm!r}; it must be 1 or 2.")
        if self.source not in ("hr", "lr"):
            raise ModelConfigError(f"boundary.source is {self.source!r}; it must be 'hr' or 'lr'.")
        whole = type(self.threshold) is int and type(self.saturation) is int
        if not whole or not 0 <= self.threshold < self.saturation:
            raise ModelConfigError(
                f"boundary.threshold is {self.threshold!r} and saturation {self.saturation!r}; whole numbers with "
                "0 <= threshold < saturation are needed."
            )
