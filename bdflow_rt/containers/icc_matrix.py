"""ICC profiles for colours that a file describes by numbers: chromaticities and a transfer function.

Source: ICC.1:2022 (version 4.4), sections 7.2 (header), 9.2 (tags), 10.6 (curve types) and annex E (adaptation to D50
by the linearised Bradford transform); code points of ITU-T H.273; Adobe RGB (1998) Color Image Encoding, section 4.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
_MAX_EXPONENT = 20.0

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue, in the order of a PNG's chunk cHRM."""

SRGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_ADOBE_RGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""ColourPrimaries of H.273: BT.709, BT.601 of 625 and of 525 lines, BT.2020, Display P3."""


@dataclass(frozen=True)
class Transfer:
    """A transfer function: v^exponent, or (a*v + b)^exponent from d on and c*v below."""

    exponent: float
    linear: tuple[float, float, float, float] | None = None
    """a, b, c and d."""


SRGB_TRANSFER = Transfer(2.4, (1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
_BT709 = Transfer(1 / 0.45, (1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081))
_TRANSFERS = {
    1: _BT709, 4: Transfer(2.2), 5: Transfer(2.8), 6: _BT709, 8: Transfer(1.0), 13: SRGB_TRANSFER, 14: _BT709,
    15: _BT709,
}  # fmt: skip
"""TransferCharacteristics of H.273 that a profile can hold; PQ (16) and HLG (18) are for HDR."""
_RGB, _FULL_RANGE = 0, 1


def cicp_profile(points: tuple[int, ...]) -> bytes | None:
    """The profile of RGB pixels with the four code points of a chunk cICP; None where there is none."""
    primaries, transfer, matrix, levels = points
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS or (matrix, levels) != (_RGB, _FULL_RANGE):
        return None
    return matrix_profile(_PRIMARIES[primaries], _TRANSFERS[transfer], "H.273 code points")


def adobe_rgb_profile() -> bytes:
    """A profile compatible with Adobe RGB (1998)."""
    return matrix_profile(_ADOBE_RGB, Transfer(563 / 256), "Compatible with Adobe RGB (1998)") or b""


def matrix_profile(chromaticities: Chromaticities, transfer: Transfer, description: str) -> bytes | None:
    """A display profile of version 4 for RGB of these colours.

    Returns:
        The profile; None where the numbers are of no colours: a white or primaries that cannot be.
    """
    columns = _columns(chromaticities)
    if columns is None or not 1 / _MAX_EXPONENT <= transfer.exponent <= _MAX_EXPONENT:
        return None
    matrix, adaptation = columns
    curve = _curve(transfer)
    tags = {
        b"desc": _text(description),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": struct.pack(">4s4x9i", b"sf32", *(_fixed(value) for value in adaptation.ravel())),
        **{name: _xyz(matrix[:, index]) for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return assemble(tags)


def assemble(tags: dict[bytes, bytes]) -> bytes:
    """A display profile of version 4, RGB to XYZ, of these tags; equal tags share their data."""
    position = 128 + 4 + 12 * len(tags)
    table, body, places = b"", b"", dict[bytes, int]()
    for name, data in tags.items():
        if data not in places:
            places[data] = position + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    header = struct.pack(
        ">I4x I 4s4s4s 12x 4s 28x 3i 48x",
        position + len(body), 0x04400000, b"mntr", b"RGB ", b"XYZ ", b"acsp", *(_fixed(value) for value in _D50),
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body


def _columns(numbers: Chromaticities) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """The XYZ of red, green and blue under D50 as columns, and the adaptation from the file's white to D50."""
    points = np.array(numbers).reshape(4, 2)
    if not (np.isfinite(points).all() and (points[:, 1] > 0).all() and (points.sum(axis=1) <= 1.0001).all()):
        return None
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in points]).T
    white, primaries = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6:
        return None
    scales = np.linalg.solve(primaries, white)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    matrix = adaptation @ (primaries * scales)
    return (matrix, adaptation) if (scales > 0).all() and np.abs(matrix).max() < 8 else None


def _curve(transfer: Transfer) -> bytes:
    if transfer.linear is None:
        return struct.pack(">4s4xHxxi", b"para", 0, _fixed(transfer.exponent))
    values = (transfer.exponent, *transfer.linear)
    return struct.pack(">4s4xHxx5i", b"para", 3, *(_fixed(value) for value in values))


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(_fixed(value) for value in values))


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(data), 28) + data


def _fixed(value: float) -> int:
    """A number as s15Fixed16."""
    return round(float(value) * 65536)
