"""Files in and out: packets in their containers, and ordinary pictures."""

from bdflow_rt.containers.header import decode_header, encode_header
from bdflow_rt.containers.image import check_picture_path, read_picture, write_picture
from bdflow_rt.containers.png import check_packet_path, decode_png, encode_png, read_packet, write_packet

__all__ = [
    "check_packet_path",
    "check_picture_path",
    "decode_header",
    "decode_png",
    "encode_header",
    "encode_png",
    "read_packet",
    "read_picture",
    "write_packet",
    "write_picture",
]
