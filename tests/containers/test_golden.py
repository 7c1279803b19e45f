"""A file written today must open in ten years: stored files of format version 1 decode to these values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bdflow_rt.containers import decode_header, encode_header, read_packet
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, ZPolicy
from tests.containers.build import same_packet

GOLDEN = Path(__file__).with_name("golden")
LR = ((np.arange(5 * 7 * 3) * 37) % 256).astype(np.uint8).reshape(5, 7, 3)
HEADER = PacketHeader(
    model="bdflow-x4@1",
    weights_hash=bytes.fromhex("0123456789abcdef"),
    scale=4,
    width=27,
    height=18,
    bits=3,
    lr_crc32=0xF1D7F7BC,
    z=ZPolicy(temperature=0.5, seed=2**63 + 1),
    colour=ColourInfo(model="grey", primaries=1, transfer=13, matrix=0, full_range=True),
)
BOUNDARY = ((np.arange(5 * 7) * 5) % 8).astype(np.uint8).reshape(5, 7)
PACKET = Packet(LR, BOUNDARY, HEADER, b"stands for a colour profile")


def test_a_stored_header_of_version_1_decodes() -> None:
    assert decode_header((GOLDEN / "header-v1.bin").read_bytes()) == HEADER


def test_headers_are_still_written_as_version_1() -> None:
    assert encode_header(HEADER) == (GOLDEN / "header-v1.bin").read_bytes()


def test_a_stored_packet_of_version_1_decodes() -> None:
    packet = read_packet(GOLDEN / "packet-v1.png")
    packet.check_pixels()
    assert same_packet(packet, PACKET)
