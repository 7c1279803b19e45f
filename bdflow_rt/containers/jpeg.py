"""Damage inside JPEG files, of which libjpeg warns, and Pillow and OpenCV do not tell.

The pixels are coded in segments that end at markers. Where the codes of a segment give out before its pixels do,
libjpeg makes up the rest: grey, or coarse in a progressive file. So such a file is decoded once more with a few bytes
behind every segment, which libjpeg skips where the segment is whole, and takes for pixels where it is not. Zero bytes,
as failing disks leave them, are looked for as well.

Not seen: damage whose codes give as many pixels as there should be; and in a picture of more than a megapixel, that
the codes of no whole block are missing.

Source: ITU-T T.81, annexes B, F and G.
"""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bdflow_rt.containers.pillow import blocks

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

END_MARK = b"\xff\xd9"
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_EOI, _SOS, _DHT, _DRI, _TEM = 0xD9, 0xDA, 0xC4, 0xDD, 0x01
_RST = range(0xD0, 0xD8)
_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True}
"""SOF markers of frames in Huffman codes -> whether they are progressive."""
_FILLER = bytes.fromhex("5a93c6e12d7b84f0a55c39be6187d2f40b9e7743ac58e61d93f0254b7ec11a86")
"""Bytes without a pattern, none of them 255."""
_ZEROS = bytes(32)
_TAIL_BYTES, _MAX_TAILS = range(64, 1024), 8
_MID_GREY = 128
"""What libjpeg makes of blocks without codes."""
_SMALL = 1 << 20
"""Pixels up to which a picture is decoded twice whether it looks sound or not."""


@dataclass
class JpegScans:
    """Where the coded pixels of a JPEG lie; frames in arithmetic codes have no segments here.

    Attributes:
        ends: of the segments, as offsets into the file, and what to put there.
        tails: (start, end) of the bytes behind a run of zero bytes, up to the end of the segment.
        layered: whether several scans make up the picture.
        has_end_mark: whether EOI follows.
        fault: what is wrong with markers or codes, or None.
    """

    ends: list[tuple[int, bytes]] = field(default_factory=list)
    tails: list[tuple[int, int]] = field(default_factory=list)
    layered: bool = False
    has_end_mark: bool = False
    fault: str | None = None

    def filled(self, data: bytes) -> bytes:
        """The file with bytes behind every segment, which one that is whole does not need."""
        parts, position = [], 0
        for end, filler in self.ends:
            parts += [data[position:end], filler]
            position = end
        return b"".join((*parts, data[position:]))


def load_jpeg(image: ImageFile, data: bytes) -> None:
    """Decode all pixels of an opened JPEG.

    Args:
        image: opened from `data` and an end mark, which some files lack.
        data: the file. What follows its first end mark is not looked at, such as other pictures of a camera's MPO.

    Raises:
        ValueError: it is damaged or cut off.
        Exception: whatever Pillow raises.
    """
    scans = find_scans(data)
    if scans.fault:
        raise ValueError(scans.fault)
    data += END_MARK
    # Of layers before the picture itself takes its memory.
    expected = _decoded_checksum(scans.filled(data)) if scans.layered else None
    image.load()
    if expected is None and scans.ends and not (scans.has_end_mark and _looks_whole(image)):
        expected = _decoded_checksum(scans.filled(data))
    if expected is None and not scans.tails:
        return
    actual = _checksum(image)
    if expected not in (None, actual):
        raise ValueError("the codes of its pixels are not complete")
    for start, end in scans.tails:
        if _decoded_checksum(data[:start] + data[end:]) == actual:
            raise ValueError(f"{end - start} bytes among the codes of its pixels belong to none")


def find_scans(data: bytes) -> JpegScans:
    """Read the markers of a JPEG up to its first end mark."""
    found = JpegScans()
    progressive: bool | None = None
    interval, position, scans = 0, 2, 0
    zero_codes: dict[int, int] = {}
    while (marker := _MARKER.search(data, position)) is not None:
        kind, position = marker[1][0], marker.end()
        if kind == _EOI:
            found.has_end_mark = True
            break
        if kind in _RST or kind == _TEM:
            continue
        start = position + int.from_bytes(data[position : position + 2], "big")
        content, position = data[position + 2 : start], start
        if kind in _FRAMES:
            progressive = _FRAMES[kind]
        elif kind == _DRI:
            interval = int.from_bytes(content, "big")
        elif kind == _DHT:
            zero_codes |= _zero_codes(content)
        elif kind == _SOS and progressive is not None:
            position = _read_scan(found, data, start, has_restarts=interval > 0)
            _find_zeros(found, data, start, position, is_fault=_is_never_zero(content, zero_codes, progressive))
            scans += 1
    found.layered = bool(progressive) or scans > 1
    if not found.has_end_mark and (found.layered or not found.ends):
        found.fault = found.fault or "it has no end mark, and pixels may be missing"
    return found


def _read_scan(found: JpegScans, data: bytes, start: int, *, has_restarts: bool) -> int:
    """Add the segments of a scan; where it ends."""
    count = 0
    for marker in _MARKER.finditer(data, start):
        end = start + len(data[start : marker.start()].rstrip(b"\xff"))  # a marker may have more than one 255
        if marker[1][0] not in _RST or not has_restarts:
            break
        if marker[1][0] != _RST[count % len(_RST)]:
            found.fault = found.fault or f"its restart marker {count} is out of order"
        found.ends.append((end, _FILLER))
        start, count = marker.end(), count + 1
    else:
        end = start + len(data[start:].rstrip(b"\xff"))
    # As after another restart marker, which libjpeg skips, too, where no segment is missing.
    another = bytes((0xFF, _RST[count % len(_RST)])) if has_restarts else b""
    found.ends.append((end, _FILLER + another + _FILLER))
    return end


def _find_zeros(found: JpegScans, data: bytes, start: int, stop: int, *, is_fault: bool) -> None:
    """Look for a run of zero bytes in a scan: it is a fault, or flat blocks; if not, few codes follow it in vain."""
    zeros = data.find(_ZEROS, start, stop)
    if zeros < 0:
        return
    if is_fault:
        found.fault = found.fault or "zero bytes lie among the codes of its pixels"
    end = next(end for end, _ in found.ends if end > zeros)
    tail = max(zeros + len(_ZEROS), end - _TAIL_BYTES.stop)
    if len(data[tail:end].strip(b"\0")) >= _TAIL_BYTES.start and len(found.tails) < _MAX_TAILS:
        found.tails.append((tail, end))


def _is_never_zero(scan: bytes, zero_codes: dict[int, int], progressive: bool) -> bool:
    """Whether many zero bits cannot be codes of a scan: equal coefficients, or ends of block that are not joined.

    Args:
        scan: its header: the count of components, the number and tables of each, the first and last coefficient, and
            in the high half of the last byte how many of their bits came before.
        zero_codes: see `_zero_codes`.
        progressive: of the frame.
    """
    if progressive:
        return len(scan) > 3 and scan[-3] > 0 and scan[-1] < 16
    return any(zero_codes.get(0x10 | tables & 15) != 0 for tables in scan[2:-3:2])


def _zero_codes(tables: bytes) -> dict[int, int]:
    """The symbol whose code is zero bits, for each Huffman table of a DHT segment by its class and number."""
    symbols: dict[int, int] = {}
    while len(tables) > 17:
        symbols[tables[0]] = tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
    return symbols


def _looks_whole(image: ImageFile) -> bool:
    """Whether a picture is large, and no pixel is as blocks without codes are; about one of each block is looked at."""
    from PIL.Image import Resampling

    if image.width * image.height <= _SMALL:
        return False
    samples = np.asarray(image.resize((-(-image.width // 8), -(-image.height // 8)), Resampling.NEAREST))
    return not (samples.reshape(*samples.shape[:2], -1) == _MID_GREY).all(axis=2).any()


def _decoded_checksum(data: bytes) -> int:
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(io.BytesIO(data)) as image:
        image.load()
        return _checksum(image)


def _checksum(image: ImageFile) -> int:
    crc = 0
    for _, _, block in blocks(image):
        crc = zlib.crc32(block.tobytes(), crc)
    return crc
