"""Random and mutated headers, chunks and files: nothing but typed errors comes out, or a packet.

CRCs are repaired after most mutations, so that the checks behind them are reached. `BDFLOW_FUZZ_EXAMPLES` sets the
number of examples of the whole file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bdflow_rt.containers import decode_header, decode_png, encode_header, encode_png
from bdflow_rt.errors import InputError, PacketError
from tests.containers.build import STREAM, edit_chunk, join, make_packet, repair_header, split, with_header

EXAMPLES = int(os.environ.get("BDFLOW_FUZZ_EXAMPLES", "10000"))
MAX_PIXELS = 1 << 16
PACKETS = [make_packet(height, width, bits=bits) for height, width, bits in ((1, 1, 0), (5, 3, 1), (13, 29, 3))]
FLAT = make_packet(160, 164, bits=1, icc=b"profile")
PACKETS.append(dataclasses.replace(FLAT, boundary=np.zeros_like(FLAT.boundary)))  # its map is a WebP
FILES = [encode_png(packet) for packet in PACKETS]
HEADERS = [*(encode_header(packet.header) for packet in PACKETS), encode_header(STREAM)]
CHUNKS = [dict(split(data))[b"bdFL"] for data in FILES]

share = st.floats(0, 1, exclude_max=True)
mutation = st.one_of(
    st.tuples(st.just("flip"), share, st.integers(0, 7)),
    st.tuples(st.just("cut"), share, st.integers(1, 9)),
    st.tuples(st.just("insert"), share, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("overwrite"), share, st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("splice"), share, share),
)
mutations = st.lists(mutation, min_size=1, max_size=4)
some = st.integers(0, len(PACKETS) - 1)
some_header = st.integers(0, len(HEADERS) - 1)


def fuzz(part: float) -> settings:
    """Settings for a test that takes this part of all examples; the same ones in every run."""
    return settings(max_examples=max(1, round(part * EXAMPLES)), deadline=None, derandomize=True, database=None)


def mutate(data: bytes, changes: list[tuple[str, float, object]]) -> bytes:
    """Apply the changes, each at its share of the length."""
    for kind, where, what in changes:
        at = int(where * len(data))
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << int(str(what))]) + data[at + 1 :]
        elif isinstance(what, bytes):
            data = data[:at] + what + data[at + (len(what) if kind == "overwrite" else 0) :]
        elif isinstance(what, float):
            data = data[:at] + data[int(what * len(data)) :]
        elif isinstance(what, int) and kind == "cut":
            data = data[:at] + data[at + what :]
    return data


def decodes_or_is_refused(data: bytes) -> None:
    """Decode, letting through only the two families of errors that a bad file may raise."""
    with contextlib.suppress(PacketError, InputError):
        decode_png(data, max_pixels=MAX_PIXELS).check_unedited()


@fuzz(0.1)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_as_header(data: bytes, begin: bool) -> None:
    with contextlib.suppress(PacketError):
        decode_header(b"bdFH" + struct.pack(">IH", 10 + len(data), 1) + data if begin else data)


@fuzz(0.2)
@given(some_header, mutations)
def test_mutated_headers_with_repaired_crc(which: int, changes: list[tuple[str, float, object]]) -> None:
    with contextlib.suppress(PacketError):
        decode_header(repair_header(mutate(HEADERS[which], changes)))


@fuzz(0.2)
@given(some_header, some, mutations)
def test_mutated_headers_inside_sound_files(which: int, other: int, changes: list[tuple[str, float, object]]) -> None:
    decodes_or_is_refused(with_header(FILES[other], repair_header(mutate(HEADERS[which], changes))))


@fuzz(0.1)
@given(some, st.binary(max_size=300))
def test_random_bytes_as_chunk(which: int, data: bytes) -> None:
    decodes_or_is_refused(edit_chunk(FILES[which], b"bdFL", lambda _: data))


@fuzz(0.1)
@given(some, st.binary(max_size=300))
def test_random_bytes_as_boundary_map(which: int, data: bytes) -> None:
    decodes_or_is_refused(edit_chunk(FILES[which], b"bdFL", lambda _: HEADERS[which] + data))


@fuzz(0.1)
@given(some, some, mutations)
def test_mutated_chunks_with_repaired_crc(which: int, other: int, changes: list[tuple[str, float, object]]) -> None:
    decodes_or_is_refused(edit_chunk(FILES[other], b"bdFL", lambda _: mutate(CHUNKS[which], changes)))


@fuzz(0.1)
@given(some, st.sampled_from([b"IHDR", b"IDAT", b"IEND"]), mutations)
def test_mutated_picture_chunks_with_repaired_crc(
    which: int, kind: bytes, changes: list[tuple[str, float, object]]
) -> None:
    decodes_or_is_refused(edit_chunk(FILES[which], kind, lambda data: mutate(data, changes)))


@fuzz(0.05)
@given(some, st.lists(st.integers(0, 3), max_size=8))
def test_chunks_in_any_order_and_number(which: int, order: list[int]) -> None:
    chunks = split(FILES[which])
    decodes_or_is_refused(join([chunks[index % len(chunks)] for index in order]))


@fuzz(0.05)
@given(some, mutations)
def test_mutated_files(which: int, changes: list[tuple[str, float, object]]) -> None:
    decodes_or_is_refused(mutate(FILES[which], changes))
