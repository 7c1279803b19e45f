"""Writes spec/vectors/videos: LR videos, pictures of their second track, and what must come out of them.

`python -m tests.spec.make_video_vectors`, once per format; nothing is written over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from fractions import Fraction
from typing import Any

import numpy as np

from bdflow_rt.containers.matroska import FrameData, join_frame
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, StreamHeader, ZPolicy
from bdflow_rt.picture import UInt8Array
from bdflow_rt.video.codecs import LrCodec
from bdflow_rt.video.frames import Extras, Problems, VideoInfo
from bdflow_rt.video.lr_file import lr_pictures, lr_writer
from tests.spec.make_vectors import VECTORS, fields_as_json
from tests.support import photo

FOLDER = VECTORS / "videos"
HEADER = StreamHeader(
    model="seeded-3@1", identity=bytes(range(8)), scale=2, width=61, height=33, bits=3, time_base=(1001, 30000),
    codec="h264", lr_is_exact=True, frame_data="rows", colour=ColourInfo(primaries=1, transfer=1, matrix=1,
    full_range=False),
)  # fmt: skip
HEADERS = {
    "3-bits": HEADER,
    "8-bits-narrow": dataclasses.replace(HEADER, bits=8, width=9, height=6),
    "1-bit-one-pixel": dataclasses.replace(HEADER, bits=1, width=1, height=1),
    "0-bits": dataclasses.replace(HEADER, bits=0, frame_data="track", codec="ffv1", z=ZPolicy(temperature=0.5, seed=9)),
}
DATA = [FrameData(-1001, 0, 0x01234567), FrameData(2**40 + 3, 2**32 - 1, 0xFFFFFFFF)]


def boundary_of(header: StreamHeader, seed: int) -> UInt8Array | None:
    """Levels of noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 1 << header.bits, header.lr_size, dtype=np.uint8) if header.bits else None


def digest(array: UInt8Array | None) -> str | None:
    """SHA-256 of the levels or pixels, row by row."""
    return None if array is None else hashlib.sha256(array.tobytes()).hexdigest()


def add_frames(entries: list[dict[str, Any]]) -> None:
    """Pictures of the second track as bytes, sound and hostile."""
    for name, header in HEADERS.items():
        for index, data in enumerate(DATA):
            boundary = boundary_of(header, index)
            picture = join_frame(boundary, data)
            (FOLDER / f"{name}-{index}.bin").write_bytes(picture.tobytes())
            entries.append({
                "file": f"{name}-{index}.bin", "kind": "frame", "header": fields_as_json(header),
                "size": list(picture.shape), "data": dataclasses.asdict(data), "boundary_sha256": digest(boundary),
            })  # fmt: skip
    picture = join_frame(boundary_of(HEADER, 0), DATA[0])
    levels, behind, changed, retimed = boundary_of(HEADER, 0), picture.copy(), picture.copy(), picture.copy()
    assert levels is not None
    levels[3, 4] = 8
    behind[-1, -1] = 1
    changed[3, 4] ^= 1
    retimed[len(levels), 7] ^= 1
    hostile = {
        "level-too-high": (join_frame(levels, DATA[0]), "CorruptPacketError"),
        "changed-map": (changed, "CorruptPacketError"),
        "changed-timestamp": (retimed, "CorruptPacketError"),
        "bytes-behind-the-data": (behind, "CorruptPacketError"),
        "without-its-last-row": (picture[:-1], "PacketMismatchError"),
    }
    for name, (content, error) in hostile.items():
        (FOLDER / f"{name}.bin").write_bytes(content.tobytes())
        entries.append({
            "file": f"{name}.bin", "kind": "frame", "header": fields_as_json(HEADER), "size": list(content.shape),
            "error": error,
        })  # fmt: skip


def add_videos(entries: list[dict[str, Any]]) -> None:
    """Whole files of three frames."""
    codecs: dict[str, LrCodec] = {"h264": "h264-lossless", "ffv1": "ffv1"}
    for name in ("3-bits", "0-bits"):
        header = HEADERS[name]
        info = VideoInfo(header.width, header.height, Fraction(*header.time_base), header.colour)
        path = FOLDER / f"{name}.mkv"
        writer = lr_writer(
            path, header, info, Extras(), codec=codecs[header.codec], preset="ultrafast", problems=Problems()
        )
        frames = []
        for index, pts in enumerate((5, 6, 9)):
            lr, boundary = photo(*header.lr_size, index), boundary_of(header, index)
            common = {key: getattr(header, key) for key in ("model", "identity", "scale", "width", "height", "bits")}
            packet = Packet(lr, boundary, PacketHeader(**common, lr_crc32=Packet.crc32_of(lr)))
            writer.write(lr_pictures(packet, pts, 1, codec=codecs[header.codec]), pts, 1)
            data = FrameData(pts, 1, Packet.crc32_of(lr))
            frames.append({**dataclasses.asdict(data), "lr_sha256": digest(lr), "boundary_sha256": digest(boundary)})
        writer.close()
        entries.append({"file": path.name, "kind": "video", "header": fields_as_json(header), "frames": frames})


def main() -> None:
    """Write the folder, which must not be there."""
    if FOLDER.exists():
        raise SystemExit(f"{FOLDER} is there, and nothing is written over.")
    FOLDER.mkdir()
    entries: list[dict[str, Any]] = []
    add_frames(entries)
    add_videos(entries)
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (FOLDER / "index.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
