"""Kernels around the networks: the boundary-aware mask, each with a NumPy twin that the tests compare with."""

from bdflow_rt.kernels.boundary_mask import (
    boundary_mask,
    boundary_mask_reference,
    cell_maximum,
    sparse_magnitude,
)

__all__ = ["boundary_mask", "boundary_mask_reference", "cell_maximum", "sparse_magnitude"]
