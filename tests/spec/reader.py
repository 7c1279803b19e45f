"""A reader of headers and PNG packets, written from the pages of `spec/` alone.

It shares no code with the runtime: where the two disagree about a file, a page is unclear or one of them is wrong. It
is plain rather than fast. Pillow decodes the WebP stream of a boundary map, whose header is checked here first, and
tells whether a file that is no PNG is a sound picture; everything else is read here.
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

HEADER_LIMIT = 65_536
PROFILE_LIMIT = 16 * 1024 * 1024
SIZE_LIMIT = 2**31 - 1
CHUNK_LIMIT = 2**18
SPARE_BYTES = 65_536
# png.md demands a limit of the HR picture and leaves its value to the reader.
MAX_HR_PIXELS = 2**28

FIXED = struct.Struct(">4sIHBB8sIIBB")
MODEL, COLOUR, LR_CRC, PROFILE_CRC, LATENT, VIDEO = 0x0001, 0x0002, 0x0003, 0x0004, 0x8001, 0x8002
CRITICAL = 0x8000
FIELD_LENGTHS = {MODEL: (3, 71), COLOUR: (5, 5), LR_CRC: (4, 4), PROFILE_CRC: (4, 4), LATENT: (16, 16), VIDEO: (11, 42)}
MODEL_ID = re.compile(rb"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,5}")
CODEC = re.compile(rb"[a-z0-9][a-z0-9._-]{0,31}")
FRAME_DATA = ("rows", "track", "none")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# First column, first row, and the steps between columns and rows of the seven passes of the PNG specification.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
CHANNELS = 3


class ReadError(Exception):
    """The base of every error that the table in spec/README.md names."""


class NotAPacketError(ReadError):
    """A sound picture carries no packet."""


class CorruptImageError(ReadError):
    """The file is no picture, or a damaged one without a packet."""


class CorruptPacketError(ReadError):
    """The packet is damaged: a wrong length, CRC or order, or a value that is not allowed."""


class PacketVersionError(ReadError):
    """The packet needs a newer reader."""


class PacketMismatchError(ReadError):
    """A sound packet lies beside a picture that is not the one it describes."""


class EditedPictureError(ReadError):
    """The LR pixels or the ICC profile are not those the packet was made with."""


@dataclass(frozen=True)
class Colour:
    """The colour of the source; 2 is "unspecified" in the code points of ITU-T H.273."""

    grey: bool = False
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = True


@dataclass(frozen=True)
class Latent:
    """How Z is sampled."""

    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Video:
    """The field of a video; `frame_data` is one of FRAME_DATA."""

    time_base: tuple[int, int]
    lr_is_exact: bool
    frame_data: str
    codec: str


@dataclass(frozen=True)
class Header:
    """A packet's header; `length` in bytes, `width` and `height` of the HR picture, `video` None for a picture."""

    length: int
    scale: int
    identity: bytes
    width: int
    height: int
    bits: int
    model: str
    colour: Colour
    latent: Latent
    lr_crc32: int | None
    profile_crc32: int | None
    video: Video | None

    @property
    def lr_size(self) -> tuple[int, int]:
        """Height and width of the LR picture: those of the HR picture divided by the scale, rounded up."""
        return -(-self.height // self.scale), -(-self.width // self.scale)


@dataclass(frozen=True)
class Picture:
    """A PNG packet: (h, w, 3) LR pixels and (h, w) levels, one byte each, row by row; None is no map or profile."""

    header: Header
    lr: bytes
    boundary: bytes | None
    icc_profile: bytes | None


def read_header(data: bytes) -> Header:
    """Read a header alone.

    Raises:
        CorruptPacketError: the header is damaged, or other bytes follow it.
        PacketVersionError: the header needs a newer reader.

    Source: packet.md, "Reading".
    """
    header = _read_header_at_start(data)
    # packet.md is silent about bytes behind the header. In a PNG they are the map; a header alone ends at its CRC.
    if header.length != len(data):
        raise CorruptPacketError(f"The header has {header.length} bytes, but {len(data) - header.length} follow it.")
    return header


def _read_header_at_start(data: bytes) -> Header:
    """Read the header that `data` starts with."""
    if len(data) < 10 or data[:4] != b"bdFH":
        raise CorruptPacketError("The data does not start with a header.")
    length, version = struct.unpack_from(">IH", data, 4)
    if version != 1:
        raise PacketVersionError(f"The packet has format version {version}, but this reader knows version 1.")
    if not FIXED.size + 4 <= length <= min(HEADER_LIMIT, len(data)):
        raise CorruptPacketError(f"The header's length is {length}, but there are {len(data)} bytes.")
    end = length - 4
    if struct.unpack_from(">I", data, end)[0] != zlib.crc32(data[:end]):
        raise CorruptPacketError("The header's CRC is wrong.")
    _, _, _, kind, scale, identity, width, height, planes, bits = FIXED.unpack_from(data)
    if kind > 1 or planes > 1:
        raise PacketVersionError(f"The packet has kind {kind} and {planes} planes; this reader knows neither above 1.")
    fields = _split_fields(data[FIXED.size : end])

    if scale not in (2, 4, 8, 16, 32, 64):
        raise CorruptPacketError(f"The scale is {scale}, not a power of two from 2 to 64.")
    if not (1 <= width <= SIZE_LIMIT and 1 <= height <= SIZE_LIMIT):
        raise CorruptPacketError(f"The HR picture has {width} x {height} pixels.")
    if not (1 <= bits <= 8 if planes else bits == 0):
        raise CorruptPacketError(f"The boundary map has {planes} planes of {bits} bits.")
    is_video = kind == 1
    if MODEL not in fields or is_video != (VIDEO in fields):
        raise CorruptPacketError("A field that every header of this kind has is missing, or one is of the other kind.")
    if is_video and (LR_CRC in fields or PROFILE_CRC in fields):
        raise CorruptPacketError("The header of a video has a field of a picture.")
    if not MODEL_ID.fullmatch(fields[MODEL]):
        raise CorruptPacketError("The id of the model is not a name, @ and a version.")
    return Header(
        length=length,
        scale=scale,
        identity=identity,
        width=width,
        height=height,
        bits=bits,
        model=fields[MODEL].decode("ascii"),
        colour=_read_colour(fields[COLOUR]) if COLOUR in fields else Colour(),
        latent=_read_latent(fields[LATENT]) if LATENT in fields else Latent(),
        lr_crc32=_read_crc32(fields.get(LR_CRC)),
        profile_crc32=_read_crc32(fields.get(PROFILE_CRC)),
        video=_read_video(fields[VIDEO]) if is_video else None,
    )


def _split_fields(data: bytes) -> dict[int, bytes]:
    """Split the bytes between the fixed part and the CRC into the fields this reader knows, by code."""
    fields: dict[int, bytes] = {}
    offset, previous = 0, -1
    while offset < len(data):
        if len(data) - offset < 4:
            raise CorruptPacketError("The bytes left over behind the last field are too few for another.")
        code, length = struct.unpack_from(">HH", data, offset)
        if code <= previous:
            raise CorruptPacketError(f"Field {code:#06x} comes after field {previous:#06x}.")
        offset, previous = offset + 4, code
        if length > len(data) - offset:
            raise CorruptPacketError(f"Field {code:#06x} reaches into the CRC.")
        if code in FIELD_LENGTHS:
            shortest, longest = FIELD_LENGTHS[code]
            if not shortest <= length <= longest:
                raise CorruptPacketError(f"Field {code:#06x} has {length} bytes.")
            fields[code] = data[offset : offset + length]
        elif code & CRITICAL:
            raise PacketVersionError(f"Field {code:#06x} is critical and unknown to this reader.")
        offset += length
    return fields


def _read_colour(data: bytes) -> Colour:
    model, primaries, transfer, matrix, full_range = data
    if model > 1 or full_range > 1:
        raise CorruptPacketError(f"The colour of the source has model {model} and range {full_range}.")
    return Colour(model == 1, primaries, transfer, matrix, full_range == 1)


def _read_latent(data: bytes) -> Latent:
    temperature, seed = struct.unpack(">dQ", data)
    if not 0 <= temperature <= 10:  # NaN is refused too: it compares as false.
        raise CorruptPacketError(f"The temperature of Z is {temperature}, not 0 to 10.")
    return Latent(temperature, seed)


def _read_crc32(data: bytes | None) -> int | None:
    return None if data is None else int.from_bytes(data, "big")


def _read_video(data: bytes) -> Video:
    numerator, denominator, exact, frame_data = struct.unpack_from(">IIBB", data)
    codec = data[10:]
    if numerator == 0 or denominator == 0:
        raise CorruptPacketError(f"The time base is {numerator} / {denominator}.")
    if exact > 1 or frame_data >= len(FRAME_DATA):
        raise CorruptPacketError("The field of a video has a value that is not allowed.")
    if not CODEC.fullmatch(codec):
        raise CorruptPacketError("The codec is not a name.")
    return Video((numerator, denominator), exact == 1, FRAME_DATA[frame_data], codec.decode("ascii"))


def read_picture(data: bytes, *, max_hr_pixels: int = MAX_HR_PIXELS) -> Picture:
    """Read a PNG packet.

    Raises:
        NotAPacketError: the file is a sound picture without a packet.
        CorruptImageError: the file is no picture, or damaged and without a packet.
        CorruptPacketError: the packet is damaged.
        PacketVersionError: the packet needs a newer reader.
        PacketMismatchError: the picture is not the one the packet describes.
        ValueError: the HR picture is larger than `max_hr_pixels`.

    Source: png.md, "Reading".
    """
    if not data.startswith(PNG_SIGNATURE):
        if _is_sound_picture(data):
            raise NotAPacketError("The file is a picture, but no PNG.")
        raise CorruptImageError("The file is no picture that can be read.")
    chunks = _walk_chunks(data)
    packets = [content for kind, content in chunks if kind == b"bdFL"]
    if not packets:
        raise NotAPacketError("The PNG has no chunk bdFL.")
    if len(packets) > 1:
        raise CorruptPacketError(f"The PNG has {len(packets)} chunks bdFL.")
    header = _read_header_at_start(packets[0])
    if header.video is not None or header.lr_crc32 is None:
        raise CorruptPacketError("The header in a PNG is not of a picture, or has no CRC of the LR pixels.")
    if header.width * header.height > max_hr_pixels:
        raise ValueError(f"The HR picture has {header.width} x {header.height} pixels, above the limit.")
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    h, w = header.lr_size
    if (colour_type, depth) != (2, 8) or (height, width) != (h, w):
        raise PacketMismatchError(
            f"The picture is {width} x {height} of colour type {colour_type} and {depth} bits, "
            f"but the packet describes {w} x {h}, RGB, 8 bits."
        )
    boundary = _read_map(packets[0][header.length :], h, w, header.bits)
    icc_profile = _read_profile(chunks)
    pixels = _read_pixels(b"".join(content for kind, content in chunks if kind == b"IDAT"), h, w, interlaced == 1)
    return Picture(header, pixels, boundary, icc_profile)


def check_unedited(picture: Picture) -> None:
    """Compare the LR pixels and the ICC profile with the CRCs of the header.

    Raises:
        EditedPictureError: they differ, or only one of the profile and its CRC is there.

    Source: packet.md, "Restoring".
    """
    if picture.header.lr_crc32 not in (None, zlib.crc32(picture.lr)):
        raise EditedPictureError("The LR pixels are not those the packet was made with.")
    profile_crc32 = None if picture.icc_profile is None else zlib.crc32(picture.icc_profile)
    if picture.header.profile_crc32 != profile_crc32:
        raise EditedPictureError("The ICC profile is not the one the packet was made with.")


def _is_sound_picture(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception:  # Pillow's decoders raise errors of many classes.
        return False
    return True


def _walk_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and data of every chunk from IHDR to IEND, checked by step 2 of png.md."""
    chunks: list[tuple[bytes, bytes]] = []
    error: type[ReadError] = CorruptImageError
    offset = len(PNG_SIGNATURE)
    while len(data) - offset >= 8:
        length, kind = struct.unpack_from(">I4s", data, offset)
        if kind == b"bdFL":
            error = CorruptPacketError
        if len(chunks) == CHUNK_LIMIT:
            raise error("The file has too many chunks.")
        if length > len(data) - offset - 12:
            raise error("A chunk leaves the file.")
        content = data[offset + 8 : offset + 8 + length]
        if struct.unpack_from(">I", data, offset + 8 + length)[0] != zlib.crc32(kind + content):
            raise error("The CRC of a chunk is wrong.")
        if not kind.isalpha():  # of bytes, this asks for ASCII letters
            raise error("The type of a chunk is not four letters.")
        if (kind == b"IHDR") != (not chunks):
            raise error("IHDR is not first and alone.")
        if kind == b"IHDR":
            _check_ihdr(content)
        if not kind[0] & 0x20 and kind not in CRITICAL_CHUNKS:
            raise error("A critical chunk is unknown.")
        if kind == b"IDAT" and chunks[-1][0] != b"IDAT" and any(earlier == b"IDAT" for earlier, _ in chunks):
            raise error("The IDAT chunks do not follow one another.")
        chunks.append((kind, content))
        offset += 12 + length
        if kind == b"IEND":
            if content or all(earlier != b"IDAT" for earlier, _ in chunks):
                raise error("IEND has data, or there is no IDAT.")
            return chunks
    raise error("The file ends without IEND.")


def _check_ihdr(content: bytes) -> None:
    """Check the values of IHDR; no bdFL comes before it, so a fault is one of the picture."""
    if len(content) != 13:
        raise CorruptImageError(f"IHDR has {len(content)} bytes instead of 13.")
    width, height, _, _, compression, filtering, interlaced = struct.unpack(">IIBBBBB", content)
    if not (1 <= width <= SIZE_LIMIT and 1 <= height <= SIZE_LIMIT):
        raise CorruptImageError(f"The picture has {width} x {height} pixels.")
    if compression != 0 or filtering != 0 or interlaced > 1:
        raise CorruptImageError("The compression, filter or interlace method is unknown.")


def _read_map(data: bytes, h: int, w: int, bits: int) -> bytes | None:
    """The (h, w) levels of the coded map, one byte each; None for 0 bits. Source: boundary.md, "Coding"."""
    if bits == 0:
        if data:
            raise CorruptPacketError("Bytes follow a header of 0 bits.")
        return None
    if not data:
        raise CorruptPacketError("The boundary map is missing.")
    coding, coded = data[0], data[1:]
    if coding == 0:
        return _read_raw_map(coded, h * w, bits)
    if coding == 1:
        return _read_webp_map(coded, h, w, bits)
    raise PacketVersionError(f"The boundary map has coding {coding}, but this reader knows 0 and 1.")


def _read_raw_map(data: bytes, count: int, bits: int) -> bytes:
    """Unpack `count` levels of `bits` bits each, the most significant bit first."""
    if len(data) != -(-count * bits // 8):
        raise CorruptPacketError(f"The raw boundary map has {len(data)} bytes.")
    mask = (1 << bits) - 1
    levels = bytearray()
    for start in range(0, len(data), bits):  # `bits` bytes hold 8 whole levels.
        group = int.from_bytes(data[start : start + bits].ljust(bits, b"\0"), "big")
        levels += bytes(group >> shift & mask for shift in range(7 * bits, -1, -bits))
    unused = len(data) * 8 - count * bits
    if data[-1] & ((1 << unused) - 1):
        raise CorruptPacketError("Unused bits of the raw boundary map are not 0.")
    return bytes(levels[:count])


def _read_webp_map(data: bytes, h: int, w: int, bits: int) -> bytes:
    """Check the file and the start of its VP8L stream, then decode it and check every level."""
    if len(data) < 25:
        raise CorruptPacketError("The WebP is shorter than its header.")
    riff, riff_length, form, chunk, length, mark, start = struct.unpack_from("<4sI4s4sIBI", data)
    padded = length + length % 2
    if (riff, form, chunk, mark) != (b"RIFF", b"WEBP", b"VP8L", 0x2F):
        raise CorruptPacketError("The boundary map is no lossless WebP of one chunk.")
    if riff_length != 12 + padded or len(data) != 20 + padded or length < 5:
        raise CorruptPacketError("The lengths in the WebP do not agree with that of the map.")
    # Everything above the two sizes of 14 bits is alpha and version, which must be 0.
    if start != (w - 1 | h - 1 << 14):
        raise CorruptPacketError("The WebP has another size, alpha or a version.")
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            size, pixels = image.size, image.convert("RGB").tobytes()
    except Exception as error:
        raise CorruptPacketError("The WebP does not decode.") from error
    levels = pixels[::CHANNELS]
    if size != (w, h) or pixels[1::CHANNELS] != levels or pixels[2::CHANNELS] != levels:
        raise CorruptPacketError("The WebP is not a grey picture of the map's size.")
    if max(levels) >> bits:
        raise CorruptPacketError(f"The boundary map has a level that {bits} bits do not hold.")
    return levels


def _read_profile(chunks: list[tuple[bytes, bytes]]) -> bytes | None:
    """The ICC profile of the chunk iCCP, or None. Source: png.md, step 7."""
    kinds = [kind for kind, _ in chunks]
    if b"iCCP" not in kinds:
        return None
    place = kinds.index(b"iCCP")
    if kinds.count(b"iCCP") > 1:
        raise CorruptPacketError("The chunk iCCP comes twice.")
    content = chunks[place][1]
    name, separator, rest = content.partition(b"\0")
    if not separator or not 1 <= len(name) <= 79:
        raise CorruptPacketError("The ICC profile has no name of 1 to 79 bytes.")
    if rest[:1] != b"\0":
        raise CorruptPacketError("The ICC profile is not compressed by deflate.")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], PROFILE_LIMIT + 1)
    except zlib.error as error:
        raise CorruptPacketError("The ICC profile does not inflate.") from error
    if len(profile) > PROFILE_LIMIT or not inflater.eof or inflater.unused_data:
        raise CorruptPacketError("The ICC profile is too long, is cut, or is followed by other bytes.")
    return profile or None


def _read_pixels(stream: bytes, h: int, w: int, interlaced: bool) -> bytes:
    """Inflate and unfilter (h, w, 3) pixels."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    # A pass without pixels has no rows, not even their filter bytes.
    sizes = [(-(-(h - y) // dy), -(-(w - x) // dx)) for x, y, dx, dy in passes]
    sizes = [(rows, columns) if rows > 0 and columns > 0 else (0, 0) for rows, columns in sizes]
    lengths = [rows * (1 + CHANNELS * columns) for rows, columns in sizes]
    filtered = _inflate_pixels(stream, sum(lengths))
    if not interlaced:
        return bytes(_unfilter(filtered, h, w))
    pixels = bytearray(h * w * CHANNELS)
    offset = 0
    for (x, y, dx, dy), (rows, columns), length in zip(passes, sizes, lengths, strict=True):
        part = _unfilter(filtered[offset : offset + length], rows, columns)
        offset += length
        for row in range(rows):
            first = (y + row * dy) * w + x
            for channel in range(CHANNELS):
                start, end = row * columns * CHANNELS, (row + 1) * columns * CHANNELS
                target = slice(first * CHANNELS + channel, (y + row * dy + 1) * w * CHANNELS, dx * CHANNELS)
                pixels[target] = part[start + channel : end : CHANNELS]
    return bytes(pixels)


def _inflate_pixels(stream: bytes, length: int) -> bytes:
    """The first `length` bytes of a zlib stream that must reach its end with few bytes more."""
    inflater = zlib.decompressobj()
    try:
        filtered = inflater.decompress(stream, length + SPARE_BYTES + 1)
    except zlib.error as error:
        raise CorruptPacketError("The pixels do not inflate.") from error
    if not length <= len(filtered) <= length + SPARE_BYTES:
        raise CorruptPacketError("The pixels end early, or much too late.")
    if not inflater.eof:
        raise CorruptPacketError("The pixels have no end or no checksum.")
    return filtered[:length]


def _unfilter(data: bytes, rows: int, columns: int) -> bytearray:
    """Undo the filter of each of `rows` rows of `columns` pixels of three bytes."""
    row_length = columns * CHANNELS
    result = bytearray()
    above = bytes(row_length)
    for row in range(rows):
        start = row * (1 + row_length)
        line = _unfilter_row(data[start], data[start + 1 : start + 1 + row_length], above)
        result += line
        above = line
    return result


def _unfilter_row(kind: int, line: bytes, above: bytes) -> bytes:
    if kind > 4:
        raise CorruptPacketError(f"A row has the unknown filter {kind}.")
    if kind == 0:
        return line
    # Three zero bytes in front stand for the pixel left of the first.
    result = bytearray(CHANNELS)
    for index, (value, b) in enumerate(zip(line, above, strict=True)):
        a = result[index]
        c = above[index - CHANNELS] if index >= CHANNELS else 0
        prediction = (a, b, (a + b) // 2, _paeth(a, b, c))[kind - 1]
        result.append(value + prediction & 0xFF)
    return bytes(result[CHANNELS:])


def _paeth(a: int, b: int, c: int) -> int:
    """Of left, above and above left, the one nearest to a + b - c, ties in this order."""
    estimate = a + b - c
    return min((a, b, c), key=lambda value: abs(estimate - value))
