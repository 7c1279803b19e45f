"""Writes spec/vectors: files, and what must come out of them. `python -m tests.spec.make_vectors`, once per format.

What is there is checked by the tests beside this file and stays as it is; nothing is written over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pathlib
import shutil
import struct
import tempfile
import zlib
from typing import Any, cast

import numpy as np
from PIL import Image

from bdflow_rt.containers import encode_header, encode_png
from bdflow_rt.packet import ColourInfo, Header, Packet, PacketHeader, StreamHeader, ZPolicy
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard, find_model, list_models
from tests.containers.build import (
    INCOMPLETE_PIXELS,
    edit_chunk,
    encoded,
    fields_of,
    insert_chunks,
    join,
    make_packet,
    patch_header,
    repair_header,
    split,
    with_fields,
    with_header,
)
from tests.support import ROOT, photo
from tests.support_models import make_model, tiny_config

VECTORS = ROOT / "spec" / "vectors"
SHIPPED_SIZE = (67, 93)
SEEDED: dict[str, dict[str, Any]] = {
    "seeded-0": {"config": tiny_config(2, bits=0, coupling="additive"), "size": (23, 31)},
    "seeded-2": {"config": tiny_config(4, bits=2, hidden=4), "size": (41, 37)},
    "seeded-3": {"config": tiny_config(2, bits=3), "size": (1, 1), "storage": "int8"},
    "seeded-4": {"config": tiny_config(2, bits=4, blocks=2, hidden=4), "size": (29, 13)},
    "seeded-8": {"config": tiny_config(8, bits=8, hidden=2), "size": (53, 61)},
}
HEADER = make_packet(37, 53, bits=2).header
FULL = dataclasses.replace(
    HEADER,
    model="a" * 64 + "@999999",
    bits=8,
    z=ZPolicy(temperature=0.5, seed=2**63 + 1),
    colour=ColourInfo(model="grey", primaries=9, transfer=16, matrix=1, full_range=False),
    profile_crc32=0xFEDCBA98,
)
_COMMON = {field.name: getattr(FULL, field.name) for field in dataclasses.fields(Header)}
STREAMS = [
    StreamHeader(**_COMMON, time_base=base, codec=codec, lr_is_exact=exact, frame_data=cast(Any, place))
    for base, codec, exact, place in (
        ((1001, 30000), "h264", True, "rows"),
        ((1, 2**32 - 1), "ffv1", True, "track"),
        ((2**32 - 1, 1), "av1", False, "none"),
    )
]  # fmt: skip
Z_CODE, STREAM_CODE = 0x8001, 0x8002


class Vectors:
    """Files of one folder, and the list of what must come out of them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []

    def add(self, name: str, data: bytes, **expected: Any) -> None:
        """Write a file and note what must come out of it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.entries.append({"file": name, **expected})


def fields_as_json(header: PacketHeader | StreamHeader) -> dict[str, Any]:
    """The header's values as the list of vectors has them."""
    return json.loads(json.dumps({**dataclasses.asdict(header), "identity": header.identity.hex()}))


def picture_as_json(packet: Packet) -> dict[str, Any]:
    """What a reader finds in a packet, arrays as the SHA-256 of their bytes."""

    def digest(data: bytes | None) -> str | None:
        return None if data is None else hashlib.sha256(data).hexdigest()

    return {
        "header": fields_as_json(packet.header),
        "lr_size": list(packet.lr.shape[:2]),
        "lr_sha256": digest(packet.lr.tobytes()),
        "boundary_sha256": digest(None if packet.boundary is None else packet.boundary.tobytes()),
        "icc_sha256": digest(packet.icc_profile),
    }


def add_model(vectors: Vectors, card: ModelCard, size: tuple[int, int], *, z: ZPolicy, grey: bool, icc: bool) -> None:
    """A picture through a model: the original, the packet, the restored picture."""
    name, pixels = f"models/{card.id}", photo(*size, 11)
    image: Any = pixels[..., 0] if grey else pixels
    vectors.folder.joinpath("models").mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(vectors.folder / f"{name}-original.png", optimize=True)
    with Rescaler(card, backend="openvino") as rescaler:
        packet = rescaler.downscale(image, z=z)
        if icc:
            profile = b"stands for an ICC profile"
            header = dataclasses.replace(packet.header, profile_crc32=zlib.crc32(profile))
            packet = dataclasses.replace(packet, header=header, icc_profile=profile)
        restored = rescaler.upscale(packet)
    Image.fromarray(restored).save(vectors.folder / f"{name}-restored.png", optimize=True)
    expected = {"original": f"{name}-original.png", "restored": f"{name}-restored.png", "tolerance": 1}
    vectors.add(f"{name}.png", encode_png(packet), kind="picture", **picture_as_json(packet), **expected)


def add_models(vectors: Vectors) -> None:
    """The models that ship, and seeded ones, whose folders are beside the pictures."""
    for info in list_models():
        if info.shipped:
            add_model(vectors, find_model(info.name), SHIPPED_SIZE, z=ZPolicy(), grey=False, icc=False)
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, options) in enumerate(SEEDED.items()):
            size = options.pop("size")
            card = make_model(pathlib.Path(temporary), name=name, seed=number, **options)
            folder = vectors.folder / "seeded" / card.id
            shutil.copytree(card.folder, folder)
            z = ZPolicy(temperature=0.1 * (number % 2), seed=number)
            add_model(vectors, ModelCard.read(folder), size, z=z, grey=number == 3, icc=number == 1)


def add_maps(vectors: Vectors) -> None:
    """Maps of every number of bits in both codings: noise, which is shorter raw, and flat ones, shorter as WebP."""
    for bits in range(9):
        packet = make_packet(26, 46, scale=2, bits=bits, seed=bits)
        vectors.add(f"maps/{bits}-bits.png", encode_png(packet), kind="picture", **picture_as_json(packet))
        if packet.boundary is not None:
            flat = np.full((64, 70), (1 << bits) - 1, np.uint8)
            flat[5:, 3:] //= 2
            lr = photo(64, 70, bits)
            header = dataclasses.replace(packet.header, width=140, height=128, lr_crc32=Packet.crc32_of(lr))
            packet = Packet(lr, flat, header)
            vectors.add(f"maps/{bits}-bits-webp.png", encode_png(packet), kind="picture", **picture_as_json(packet))
    packet = make_packet(26, 46, scale=2, bits=1, seed=1)
    png = encode_png(packet)
    first, chunk, pixels, end = split(png)
    data = pixels[1]
    parts = [(b"IDAT", data[at : at + 999]) for at in range(0, len(data), 999)]
    rows = b"".join(b"\0" + row.tobytes() for row in packet.lr)
    for name, content in {
        "appended": png + b"appended",
        "chunk-after-pixels": join([first, pixels, chunk, end]),
        "many-chunks": join(
            [first, (b"tEXt", b"Title\0a picture"), chunk, *parts, (b"IDAT", b""), (b"tIME", bytes(7)), end]
        ),
        "unfiltered": join([first, chunk, (b"IDAT", zlib.compress(rows)), end]),
        "empty-profile": insert_chunks(png, (b"iCCP", b"n\0\0" + zlib.compress(b""))),
        "64-kib-behind-the-rows": join([first, chunk, (b"IDAT", zlib.compress(rows + bytes(65536))), end]),
        "bytes-behind-the-pixels": join([first, chunk, (b"IDAT", zlib.compress(rows) + b"no zlib"), end]),
        "interlaced": join([_interlaced(first), chunk, (b"IDAT", zlib.compress(_passes(packet.lr))), end]),
    }.items():
        vectors.add(f"maps/{name}.png", content, kind="picture", **picture_as_json(packet))


def _interlaced(ihdr: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return ihdr[0], ihdr[1][:-1] + b"\1"


def _passes(pixels: Any) -> bytes:
    """The rows of Adam7's seven passes, unfiltered."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = [pixels[y::down, x::right] for y, x, down, right in starts]
    return b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)


def add_headers(vectors: Vectors) -> None:
    """Every field with its smallest and largest values, and fields to skip."""
    headers: list[PacketHeader | StreamHeader] = [
        HEADER, FULL, *STREAMS, dataclasses.replace(HEADER, bits=0, lr_crc32=None, width=1, height=1, scale=64),
        dataclasses.replace(HEADER, width=2**31 - 1, height=2**31 - 1, model="0@1", lr_crc32=0, scale=2),
        dataclasses.replace(HEADER, colour=ColourInfo(model="grey")), dataclasses.replace(HEADER, z=ZPolicy(seed=1)),
        dataclasses.replace(HEADER, z=ZPolicy(temperature=10), profile_crc32=0),
    ]  # fmt: skip
    for number, header in enumerate(headers):
        vectors.add(f"headers/{number}.bin", encode_header(header), kind="header", header=fields_as_json(header))
    skipped = {**fields_of(HEADER), 0x0005: b"later", 0x0040: b"metadata", 0x7FFF: b""}
    vectors.add("headers/skip.bin", with_fields(HEADER, skipped), kind="header", header=fields_as_json(HEADER))
    free = 65536 - len(encode_header(HEADER)) - 4
    longest = with_fields(HEADER, {**fields_of(HEADER), 0x0040: bytes(free)})
    vectors.add("headers/64-kib.bin", longest, kind="header", header=fields_as_json(HEADER))


def add_hostile_headers(vectors: Vectors) -> None:
    """Headers that must be refused, each for one reason."""
    data, fields, video = encode_header(HEADER), fields_of(HEADER), fields_of(STREAMS[0])
    free = 65537 - len(data) - 4
    cases: dict[str, tuple[str, bytes]] = {
        "empty": ("CorruptPacketError", b""),
        "magic": ("CorruptPacketError", b"bdFX" + data[4:]),
        "cut": ("CorruptPacketError", data[:-1]),
        "longer-than-it-says": ("CorruptPacketError", data + b"\0"),
        "crc": ("CorruptPacketError", data[:-1] + bytes([data[-1] ^ 1])),
        "version-0": ("PacketVersionError", repair_header(data[:8] + bytes(2) + data[10:])),
        "version-2": ("PacketVersionError", repair_header(data[:8] + b"\0\2" + data[10:])),
        "64-kib-and-1": ("CorruptPacketError", with_fields(HEADER, {**fields, 0x0040: bytes(free)})),
        "length-33": ("CorruptPacketError", repair_header(data[:29] + bytes(4))),
        "length-largest": ("CorruptPacketError", data[:4] + b"\xff" * 4 + data[8:]),
        "kind-2": ("PacketVersionError", patch_header(HEADER, 10, b"\2")),
        "planes-2": ("PacketVersionError", patch_header(HEADER, 28, b"\2")),
        "planes-0": ("CorruptPacketError", patch_header(HEADER, 28, b"\0")),
        "bits-0": ("CorruptPacketError", patch_header(HEADER, 29, b"\0")),
        "bits-9": ("CorruptPacketError", patch_header(HEADER, 29, b"\x09")),
        "scale-3": ("CorruptPacketError", patch_header(HEADER, 11, b"\3")),
        "scale-128": ("CorruptPacketError", patch_header(HEADER, 11, b"\x80")),
        "width-too-large": ("CorruptPacketError", patch_header(HEADER, 20, b"\xff" * 4)),
        "height-0": ("CorruptPacketError", patch_header(HEADER, 24, bytes(4))),
        "ten-bytes": ("CorruptPacketError", data[:10]),
        "thirty-bytes": ("CorruptPacketError", data[:30]),
        "code-0": ("CorruptPacketError", with_fields(HEADER, [(0, b""), (0, b""), *fields.items()])),
        "z-infinite": ("CorruptPacketError", with_fields(HEADER, {**fields, Z_CODE: struct.pack(">dQ", math.inf, 0)})),
        "width-0": ("CorruptPacketError", patch_header(HEADER, 20, bytes(4))),
        "height-too-large": ("CorruptPacketError", patch_header(HEADER, 24, b"\x80\0\0\0")),
        "critical-unknown": ("PacketVersionError", with_fields(HEADER, {**fields, 0x8003: b""})),
        "critical-0": ("PacketVersionError", with_fields(HEADER, {**fields, 0x8000: b"x"})),
        "repeated": ("CorruptPacketError", with_fields(HEADER, [*fields.items(), [*fields.items()][-1]])),
        "out-of-order": ("CorruptPacketError", with_fields(HEADER, [*fields.items()][::-1])),
        "unknown-out-of-order": ("CorruptPacketError", with_fields(HEADER, [(0x0050, b""), *fields.items()])),
        "overrun": ("CorruptPacketError", repair_header(data[:32] + b"\3\xe7" + data[34:])),
        "overrun-into-crc": ("CorruptPacketError", repair_header(data[:-10] + b"\0\6" + data[-8:])),
        "left-over": ("CorruptPacketError", repair_header(data[:-4] + bytes(3) + bytes(4))),
        "no-model": ("CorruptPacketError", with_fields(HEADER, {0x0003: bytes(4)})),
        "model-upper-case": ("CorruptPacketError", with_fields(HEADER, {**fields, 1: b"BDFLOW@1"})),
        "model-newline": ("CorruptPacketError", with_fields(HEADER, {**fields, 1: b"bdflow@1\n"})),
        "model-not-ascii": ("CorruptPacketError", with_fields(HEADER, {**fields, 1: "bdfl\u00f6w@1".encode()})),
        "model-long": ("CorruptPacketError", with_fields(HEADER, {**fields, 1: b"a" * 65 + b"@1"})),
        "model-version-0": ("CorruptPacketError", with_fields(HEADER, {**fields, 1: b"a@0"})),
        "colour-model-2": ("CorruptPacketError", with_fields(HEADER, {**fields, 2: bytes((2, 2, 2, 2, 1))})),
        "colour-range-2": ("CorruptPacketError", with_fields(HEADER, {**fields, 2: bytes((0, 2, 2, 2, 2))})),
        "colour-short": ("CorruptPacketError", with_fields(HEADER, {**fields, 2: bytes(4)})),
        "crc-field-long": ("CorruptPacketError", with_fields(HEADER, {**fields, 3: bytes(5)})),
        "profile-empty": ("CorruptPacketError", with_fields(HEADER, {**fields, 4: b""})),
        "z-nan": ("CorruptPacketError", with_fields(HEADER, {**fields, Z_CODE: struct.pack(">dQ", float("nan"), 0)})),
        "z-negative": ("CorruptPacketError", with_fields(HEADER, {**fields, Z_CODE: struct.pack(">dQ", -0.1, 0)})),
        "z-11": ("CorruptPacketError", with_fields(HEADER, {**fields, Z_CODE: struct.pack(">dQ", 11, 0)})),
        "z-short": ("CorruptPacketError", with_fields(HEADER, {**fields, Z_CODE: bytes(8)})),
        "picture-with-video-field": (
            "CorruptPacketError", with_fields(HEADER, {**fields, STREAM_CODE: video[STREAM_CODE]})
        ),
    }  # fmt: skip
    for name, fixed in (("time-base-0", (0, 25, 1, 0)), ("time-base-1-0", (1, 0, 1, 0)), ("exact-2", (1, 25, 2, 0)),
                        ("place-3", (1, 25, 1, 3))):  # fmt: skip
        changed = {**video, STREAM_CODE: struct.pack(">IIBB", *fixed) + b"ffv1"}
        cases[f"video-{name}"] = ("CorruptPacketError", with_fields(STREAMS[0], changed))
    for name, codec in (("empty", b""), ("upper-case", b"FFV1"), ("long", b"a" * 33), ("not-ascii", b"\xff")):
        changed = {**video, STREAM_CODE: struct.pack(">IIBB", 1, 25, 1, 0) + codec}
        cases[f"video-codec-{name}"] = ("CorruptPacketError", with_fields(STREAMS[0], changed))
    rest = {code: data for code, data in video.items() if code != STREAM_CODE}
    cases["video-without-its-field"] = ("CorruptPacketError", with_fields(STREAMS[0], rest))
    cases["video-with-lr-crc"] = ("CorruptPacketError", with_fields(STREAMS[0], {**video, 3: bytes(4)}))
    unknown = {0x8003: b""}
    cases["model-short-and-critical"] = ("CorruptPacketError", with_fields(HEADER, {**fields, 1: b"@1", **unknown}))
    changed = {**video, STREAM_CODE: struct.pack(">IIBB", 1, 25, 1, 0), **unknown}
    cases["video-codec-empty-and-critical"] = ("CorruptPacketError", with_fields(STREAMS[0], changed))
    planes_0 = with_fields(HEADER, {**fields, **unknown})
    planes_0 = repair_header(planes_0[:28] + b"\0" + planes_0[29:])
    cases["planes-0-and-critical"] = ("PacketVersionError", planes_0)
    for name, (error, content) in cases.items():
        vectors.add(f"hostile/header-{name}.bin", content, kind="header", error=error)


def add_hostile_pictures(vectors: Vectors) -> None:
    """PNG files that must be refused, each for one reason."""
    packet = make_packet(37, 53, bits=2, icc=b"stands for an ICC profile")
    png, chunks = encode_png(packet), split(encode_png(packet))
    header, levels = encode_header(packet.header), np.asarray(packet.boundary)
    fields = fields_of(packet.header)
    no_crc = {code: data for code, data in fields.items() if code != 3}
    edited = packet.lr.copy()
    edited[2, 2] ^= 1

    def mapped(data: bytes) -> bytes:
        return edit_chunk(png, b"bdFL", lambda _: header + data)

    def profiled(data: bytes) -> bytes:
        return edit_chunk(png, b"iCCP", lambda _: data)

    def webp(array: Any, **options: Any) -> bytes:
        return b"\1" + encoded(Image.fromarray(array), "WEBP", **{"lossless": True, **options})

    def picture(image: Image.Image) -> bytes:
        own = [(kind, data) for kind, data in split(encoded(image, "PNG")) if kind in (b"IHDR", b"IDAT", b"PLTE")]
        kept = [(kind, data) for kind, data in chunks if kind in (b"bdFL", b"iCCP")]
        return join([own[0], *kept, *own[1:], (b"IEND", b"")])

    def without(kind: bytes) -> bytes:
        return join([entry for entry in chunks if entry[0] != kind])

    sound, filter_5 = webp(levels), zlib.compress((b"\5" + bytes(42)) * 10)
    cases = {
        "no-chunk": ("NotAPacketError", without(b"bdFL")),
        "jpeg": ("NotAPacketError", encoded(Image.fromarray(packet.lr), "JPEG")),
        "garbage": ("CorruptImageError", b"no picture at all"),
        "cut-before-chunk": ("CorruptImageError", png[:30]),
        "cut-in-chunk": ("CorruptPacketError", png[: png.index(b"bdFL") + 20]),
        "cut-in-pixels": ("CorruptPacketError", png[: png.index(b"IDAT") + 40]),
        "cut-behind-chunk-type": ("CorruptPacketError", png[: png.index(b"bdFL") + 5]),
        "chunk-type-digit": ("CorruptPacketError", join([*chunks[:-1], (b"tEX1", b""), chunks[-1]])),
        "no-end": ("CorruptPacketError", join(chunks[:-1])),
        "two-chunks": ("CorruptPacketError", join([*chunks[:3], *chunks[2:]])),
        "chunk-crc": ("CorruptPacketError", png.replace(header, header[:-1] + b"\0", 1)),
        "chunk-empty": ("CorruptPacketError", edit_chunk(png, b"bdFL", lambda _: b"")),
        "header-of-a-video": ("CorruptPacketError", with_header(png, encode_header(STREAMS[0]))),
        "header-without-lr-crc": ("CorruptPacketError", with_header(png, with_fields(packet.header, no_crc))),
        "critical-chunk": ("CorruptPacketError", join([*chunks[:-1], (b"ABCD", b""), chunks[-1]])),
        "header-0-bits-and-a-map": ("CorruptPacketError", with_header(png, patch_header(packet.header, 28, bytes(2)))),
        "other-scale": ("PacketMismatchError", with_header(png, patch_header(packet.header, 11, b"\2"))),
        "other-size": ("PacketMismatchError", with_header(png, patch_header(packet.header, 20, b"\0\0\1\0"))),
        "grey": ("PacketMismatchError", picture(Image.fromarray(packet.lr).convert("L"))),
        "alpha": ("PacketMismatchError", picture(Image.fromarray(packet.lr).convert("RGBA"))),
        "palette": ("PacketMismatchError", picture(Image.fromarray(packet.lr).convert("P"))),
        "resized": ("PacketMismatchError", picture(Image.fromarray(packet.lr).resize((28, 20)))),
        "map-missing": ("CorruptPacketError", mapped(b"")),
        "map-raw-short": ("CorruptPacketError", mapped(b"\0" + bytes(34))),
        "map-raw-long": ("CorruptPacketError", mapped(b"\0" + bytes(36))),
        "map-coding-2": ("PacketVersionError", mapped(b"\2" + bytes(35))),
        "map-coding-255": ("PacketVersionError", mapped(b"\xff")),
        "map-webp-cut": ("CorruptPacketError", mapped(sound[:-3])),
        "map-webp-trailing": ("CorruptPacketError", mapped(sound + b"xx")),
        "map-webp-of-another-size": ("CorruptPacketError", mapped(webp(levels[:-1]))),
        "map-webp-of-colour": ("CorruptPacketError", mapped(webp(np.stack([levels, levels, levels + 1], -1)))),
        "map-webp-with-alpha": ("CorruptPacketError", mapped(webp(np.stack([levels] * 4, -1)))),
        "map-webp-level-4": ("CorruptPacketError", mapped(webp(np.full_like(levels, 4)))),
        "map-webp-lossy": ("CorruptPacketError", mapped(webp(levels, lossless=False))),
        "map-webp-with-metadata": ("CorruptPacketError", mapped(webp(levels, exif=b"Exif\0\0x"))),
        "profile-twice": ("CorruptPacketError", insert_chunks(png, (b"iCCP", b"n\0\0" + zlib.compress(b"x")))),
        "profile-without-name": ("CorruptPacketError", edit_chunk(png, b"iCCP", lambda data: b"\0\0" + data)),
        "profile-cut": ("CorruptPacketError", edit_chunk(png, b"iCCP", lambda data: data[:-5])),
        "profile-trailing": ("CorruptPacketError", edit_chunk(png, b"iCCP", lambda data: data + b"x")),
        "profile-compression-1": ("CorruptPacketError", profiled(b"n\0\1" + zlib.compress(b"x"))),
        "profile-name-of-80": ("CorruptPacketError", profiled(b"n" * 80 + b"\0\0" + zlib.compress(b"x"))),
        "profile-no-zlib": ("CorruptPacketError", profiled(b"n\0\0no zlib")),
        "pixels-no-zlib": ("CorruptPacketError", edit_chunk(png, b"IDAT", lambda _: b"no zlib at all")),
        "pixels-filter-5": ("CorruptPacketError", edit_chunk(png, b"IDAT", lambda _: filter_5)),
        "ihdr-twice": ("CorruptImageError", join([chunks[0], *chunks])),
        "ihdr-of-14-bytes": ("CorruptImageError", join([(b"IHDR", chunks[0][1] + b"x"), *chunks[1:]])),
        "idat-apart": ("CorruptPacketError", join([*chunks[:-1], (b"tIME", bytes(7)), *chunks[-2:]])),
        "no-idat": ("CorruptPacketError", join([entry for entry in chunks if entry[0] != b"IDAT"])),
        "end-with-data": ("CorruptPacketError", join([*chunks[:-1], (b"IEND", b"x")])),
        "cut-without-chunk": ("CorruptImageError", without(b"bdFL")[:-4]),
        "sixteen-bits": ("PacketMismatchError", edit_chunk(png, b"IHDR", lambda data: data[:8] + b"\x10" + data[9:])),
        "other-height": ("PacketMismatchError", with_header(png, patch_header(packet.header, 24, b"\0\0\1\0"))),
        "map-raw-empty": ("CorruptPacketError", mapped(b"\0")),
        "map-webp-empty": ("CorruptPacketError", mapped(b"\1")),
        "map-webp-turned": ("CorruptPacketError", mapped(webp(levels.T))),
        "map-webp-stream-broken": ("CorruptPacketError", mapped(sound[:27] + b"\xff" * (len(sound) - 27))),
        "map-webp-signature": ("CorruptPacketError", mapped(sound[:21] + b"\x2e" + sound[22:])),
        "map-webp-version-1": ("CorruptPacketError", mapped(sound[:25] + bytes([sound[25] | 0x20]) + sound[26:])),
        "map-webp-riff-length": ("CorruptPacketError", mapped(sound[:5] + bytes([sound[5] ^ 2]) + sound[6:])),
        "pixels-cut": ("CorruptPacketError", edit_chunk(png, b"IDAT", lambda data: data[: len(data) // 2])),
        "pixels-rows-missing": ("CorruptPacketError", edit_chunk(png, b"IDAT", INCOMPLETE_PIXELS["a-half"])),
        "pixels-without-checksum": ("CorruptPacketError", edit_chunk(png, b"IDAT", INCOMPLETE_PIXELS["no-checksum"])),
        "pixels-without-final-block": (
            "CorruptPacketError", edit_chunk(png, b"IDAT", INCOMPLETE_PIXELS["no-final-block"])
        ),
        "pixels-64-kib-and-1-behind-the-rows": (
            "CorruptPacketError",
            edit_chunk(png, b"IDAT", lambda data: zlib.compress(zlib.decompress(data) + bytes(65537))),
        ),
        "pixels-edited": ("EditedPictureError", picture(Image.fromarray(edited))),
        "profile-stripped": ("EditedPictureError", without(b"iCCP")),
        "profile-changed": (
            "EditedPictureError", profiled(b"n\0\0" + zlib.compress(b"another profile"))
        ),
        "profile-added": (
            "EditedPictureError",
            insert_chunks(encode_png(make_packet(37, 53, bits=2)), (b"iCCP", b"n\0\0" + zlib.compress(b"x"))),
        ),
    }  # fmt: skip
    odd = encode_png(make_packet(25, 23, bits=1))
    cases["map-raw-unused-bits"] = ("CorruptPacketError", edit_chunk(odd, b"bdFL", lambda data: data[:-1] + b"\xff"))
    for name, (error, content) in cases.items():
        vectors.add(f"hostile/{name}.png", content, kind="picture", error=error)


def main() -> None:
    """Write the folder, which must not be there."""
    vectors = Vectors(VECTORS)
    if (VECTORS / "index.json").exists():
        raise SystemExit(f"{VECTORS} has vectors, which are not written over.")
    for add in (add_models, add_maps, add_headers, add_hostile_headers, add_hostile_pictures):
        add(vectors)
    lines = ",\n".join(json.dumps(entry) for entry in vectors.entries)
    (VECTORS / "index.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
