"""What a file is by its first bytes, whatever its name says: a picture, or a video and how it is opened."""

from __future__ import annotations

PREFIX_BYTES = 1024
"""First bytes that `video_format` looks at."""
_TS_SYNC = 0x47
_TS_PACKETS = ((188, 0), (192, 4))
"""Bytes of a packet of MPEG-TS, and where in it the sync byte is: on the air, and with a time before it on Blu-rays and
in camcorders."""
_BRANDS_OF_PICTURES = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
_AT_START = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"YUV4MPEG2", "yuv4mpegpipe"),
    (b"OggS", "ogg"),
    (b"FLV\x01", "flv"),
    (b"DKIF", "ivf"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"nut/multimedia container\0", "nut"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", "mxf"),
    (b"\0\0\x01\xba", "mpeg"),
    (b"\0\0\x01\xb3", "mpegvideo"),
    (b".RMF", "rm"),
)
"""First bytes of containers, and FFmpeg's names of their demuxers."""
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_H264_SPS, _HEVC_VPS = 7, 32
_START_CODES = (b"\0\0\0\x01", b"\0\0\x01")


def video_format(prefix: bytes) -> str | None:
    """FFmpeg's name of the demuxer of a video, or None where the bytes do not begin one.

    Args:
        prefix: the first `PREFIX_BYTES` of the file.
    """
    for magic, name in _AT_START:
        if prefix.startswith(magic):
            return name
    if prefix[4:8] == b"ftyp":
        return None if prefix[8:12] in _BRANDS_OF_PICTURES else "mov"
    if prefix[4:8] in _QUICKTIME_ATOMS:  # of files older than ftyp
        return "mov"
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"AVI ":
        return "avi"
    for size, sync in _TS_PACKETS:
        if prefix[sync : sync + 2 * size + 1 : size] == bytes((_TS_SYNC,) * 3):
            return "mpegts"
    return _elementary_stream(prefix)


def has_index_first(prefix: bytes) -> bool:
    """Whether an MP4 or MOV has its index before its frames, as far as its beginning says, so that a pipe will do.

    Args:
        prefix: the first `PREFIX_BYTES` of the file.
    """
    place = 0
    while len(atom := prefix[place : place + 8]) == 8 and (size := int.from_bytes(atom[:4], "big")) != 1:
        if atom[4:] in (b"moov", b"mdat"):
            break
        place += max(size, 8)
    return atom[4:] != b"mdat"


def _elementary_stream(prefix: bytes) -> str | None:
    """A bare stream of H.264 or HEVC, which begins with its parameters (ITU-T H.264 and H.265, annex B)."""
    for code in _START_CODES:
        if prefix.startswith(code) and len(prefix) > len(code) + 1:
            first = prefix[len(code)]
            if first & 0x80 == 0 and first & 0x1F == _H264_SPS and first >> 5:
                return "h264"
            if first & 0x81 == 0 and first >> 1 == _HEVC_VPS:
                return "hevc"
            if first & 0x9F == 9:  # an access unit delimiter
                return "h264"
    return None
