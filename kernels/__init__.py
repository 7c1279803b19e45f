"""Kernels around the networks: the Haar transform, the boundary-aware mask, the way from and to frames.

Every function but `cell_maximum` and the reference takes NumPy arrays, for which it returns NumPy arrays, or GPU arrays
of CuPy, PyTorch or any library with DLPack or `__cuda_array_interface__`, which stay on the GPU.
docs/reference/kernels.md has the whole picture.
"""

from bdflow_rt.kernels.boundary_mask import boundary_mask, cell_maximum, sparse_magnitude
from bdflow_rt.kernels.boundary_reference import boundary_mask_reference
from bdflow_rt.kernels.egress import egress, egress_nv12
from bdflow_rt.kernels.haar import haar_forward, haar_inverse
from bdflow_rt.kernels.ingest import ingest, ingest_nv12
from bdflow_rt.kernels.pack_bits import pack_bits, unpack_bits

__all__ = [
    "boundary_mask",
    "boundary_mask_reference",
    "cell_maximum",
    "egress",
    "egress_nv12",
    "haar_forward",
    "haar_inverse",
    "ingest",
    "ingest_nv12",
    "pack_bits",
    "sparse_magnitude",
    "unpack_bits",
]
