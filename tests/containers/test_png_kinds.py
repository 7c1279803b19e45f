"""Every kind of PNG: each goes both ways, or is refused with a command that works. OpenCV is the second decoder."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bdflow_rt.containers import read_picture, write_picture
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError
from tests.containers.build import Chunks, encoded, join, refused, split
from tests.containers.pngs import KINDS, Png
from tests.containers.test_icc import SRGB
from tests.support import photo

EIGHT_BITS = [(colour, depth) for colour, depth in KINDS if depth <= 8]


def opencv(data: bytes) -> NDArray[np.uint8]:
    """RGB, whatever the file has; OpenCV drops alpha and applies no colour chunk."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.uint8)


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize(("colour", "depth"), EIGHT_BITS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (23, 29), (64, 33)])
def test_every_colour_type_depth_and_interlace_goes_both_ways(
    colour: int, depth: int, interlace: int, size: tuple[int, int], tmp_path: Path
) -> None:
    png = Png.random(colour, depth, interlace, size=size)
    data = png.encode()
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, png.rgb())
    assert np.array_equal(picture.pixels, opencv(data))
    assert picture.colour == ("grey" if colour in (0, 4) else "rgb")
    write_picture(tmp_path / "back.png", picture)
    assert np.array_equal(read_picture(tmp_path / "back.png").pixels, png.rgb())


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_are_refused_by_name(colour: int, interlace: int) -> None:
    with refused(UnsupportedImageError, "16-bit PNG", "convert IN -colorspace sRGB -depth 8 OUT.png"):
        read_picture(Png.random(colour, 16, interlace).encode())


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize(("colour", "depth"), [pair for pair in EIGHT_BITS if pair[0] in (0, 2, 3)])
def test_a_transparent_value_is_refused_or_flattened(colour: int, depth: int, interlace: int) -> None:
    png = Png.random(colour, depth, interlace)
    key = png.samples[4, 7]
    table = bytes([255] * int(key[0]) + [0]) if colour == 3 else struct.pack(f">{len(key)}H", *key)
    data = png.encode((b"tRNS", table))
    with refused(UnsupportedImageError, "transparent", "--background"):
        read_picture(data)
    expected = np.where((png.samples == key).all(-1, keepdims=True), (32, 192, 64), png.rgb())
    assert np.array_equal(read_picture(data, background="#20c040").pixels, expected)


@pytest.mark.parametrize(("colour", "depth"), EIGHT_BITS)
def test_gamma_is_kept_by_a_profile(colour: int, depth: int) -> None:
    png = Png.random(colour, depth, 0)
    data = png.encode((b"gAMA", struct.pack(">I", 100000)))
    with pytest.warns(UserWarning, match=r"gamma 1 \(chunk gAMA\), by an ICC profile"):
        picture = read_picture(data)
    assert np.array_equal(picture.pixels, png.rgb())
    assert picture.icc_profile is not None


SKIPPED = {
    "text": (b"tEXt", b"Title\0x"),
    "compressed text": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))),
    "long international text": (b"iTXt", b"Workflow\0\1\0\0\0" + zlib.compress(bytes(3 << 20))),
    "text that does not inflate": (b"zTXt", b"Comment\0\0no zlib"),
    "physical size": (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    "time": (b"tIME", struct.pack(">HBBBBB", 2026, 1, 1, 0, 0, 0)),
    "background": (b"bKGD", b"\0\1"),
    "significant bits": (b"sBIT", b"\4\4\4"),
    "histogram": (b"hIST", b"\0" * 32),
    "suggested palette": (b"sPLT", b"name\0\x08" + bytes(6)),
    "profile of no colours": (b"iCCP", b"x\0\0" + zlib.compress(b"garbage")),
    "private": (b"prVt", b"anything"),
    "exif of nothing": (b"eXIf", b"MM\0*\0\0\0\x08\0\0"),
    "exif that is cut off": (b"eXIf", b"MM\0*\0\0\0\xff"),
    "still of an animation": (b"acTL", struct.pack(">II", 0, 0)),
}


@pytest.mark.filterwarnings("ignore:.*without the ICC profile")
@pytest.mark.parametrize("where", ["before the pixels", "behind them"])
@pytest.mark.parametrize("name", SKIPPED)
def test_a_chunk_that_says_nothing_of_pixels_changes_none(name: str, where: str) -> None:
    png = Png.random(2, 8, 0)
    extra = SKIPPED[name]
    data = png.encode(extra) if where == "before the pixels" else png.encode(after=[extra])
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, png.rgb())
    assert picture.icc_profile is None


@pytest.mark.parametrize("where", ["before the pixels", "behind them"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_turns_a_picture_wherever_it_stands(orientation: int, where: str, order: str) -> None:
    png = Png.random(2, 8, 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    exif = mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    extra = (b"eXIf", exif)
    data = png.encode(extra) if where == "before the pixels" else png.encode(after=[extra])
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_picture(data).pixels, expected)


def test_xmp_does_not_turn_a_picture() -> None:
    png = Png.random(2, 8, 0)
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf tiff:Orientation=\"6\"/></x:xmpmeta>"
    for extra in ((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), (b"tEXt", b"XML:com.adobe.xmp\0" + xmp)):
        assert np.array_equal(read_picture(png.encode(extra)).pixels, png.rgb())


def test_a_profile_counts_before_the_pixels_alone() -> None:
    png, profile = Png.random(2, 8, 0), (b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB))
    assert read_picture(png.encode(profile)).icc_profile == SRGB
    with pytest.warns(UserWarning, match="it follows the pixels"):
        assert read_picture(png.encode(after=[profile])).icc_profile is None


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("first_is_a_frame", [True, False])
def test_an_animation_is_refused_and_one_of_its_own_pixels_alone_is_not(frames: int, first_is_a_frame: bool) -> None:
    png = Png.random(2, 8, 0)
    control = (b"fcTL", struct.pack(">IIIIIHHBB", 0, 29, 23, 0, 0, 1, 10, 0, 0))
    chunks = [(b"acTL", struct.pack(">II", frames, 0)), *([control] if first_is_a_frame else [])]
    if frames == 1 and first_is_a_frame:
        assert np.array_equal(read_picture(png.encode(*chunks)).pixels, png.rgb())
        return
    with refused(UnsupportedImageError, "animated", "convert 'IN[0]' OUT.png"):
        read_picture(png.encode(*chunks))


def as_apples(data: bytes) -> bytes:
    """A PNG as Xcode's pngcrush writes it into apps: a chunk CgBI, BGR, colours times alpha, deflate without zlib."""
    header, *others = split(data)
    width, height, _, colour = struct.unpack(">IIBB", header[1][:10])
    rows = zlib.decompress(b"".join(part for kind, part in others if kind == b"IDAT"))
    samples = np.frombuffer(rows, np.uint8).reshape(height, -1)[:, 1:].reshape(height, width, -1).astype(int)
    alpha = samples[..., 3:] if colour == 6 else 255
    stored = samples.copy()
    if colour in (2, 6):
        stored[..., :3] = (samples[..., 2::-1] * alpha + 127) // 255
    rows = np.hstack([np.zeros((height, 1), int), stored.reshape(height, -1)]).astype(np.uint8).tobytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    pixels = deflate.compress(rows) + deflate.flush()
    kept = [pair for pair in others if pair[0] not in (b"IDAT", b"IEND")]
    return join([(b"CgBI", b"P\0 \2"), header, *kept, (b"IDAT", pixels[:100]), (b"IDAT", pixels[100:]), others[-1]])


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_the_variant_of_iphone_apps_is_read(colour: int) -> None:
    png = Png.random(colour, 8, 0)
    assert np.array_equal(read_picture(as_apples(png.encode())).pixels, png.rgb())


def test_a_transparent_picture_of_an_iphone_app_is_that_of_its_original() -> None:
    png = Png.random(6, 8, 0)
    png.samples[..., 3] = np.random.default_rng(1).integers(0, 256, png.samples.shape[:2])
    data = as_apples(png.encode())
    with refused(UnsupportedImageError, "transparent", "--background"):
        read_picture(data)
    expected = read_picture(png.encode(), background="#20c040").pixels.astype(int)
    assert np.abs(read_picture(data, background="#20c040").pixels - expected).max() <= 1


@pytest.mark.parametrize("damage", ["cut off", "flipped", "too few rows", "too many rows"])
def test_damage_of_an_iphone_picture_is_named(damage: str) -> None:
    data = as_apples(Png.random(6, 8, 0).encode())
    if damage == "cut off":
        data = data[:-60]
    elif damage == "flipped":
        data = data[:-60] + bytes([data[-60] ^ 1]) + data[-59:]
    else:
        chunks = split(data)
        height = 24 if damage == "too few rows" else 1
        bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
        rows = bytes(23 * 117 if damage == "too few rows" else 1 << 20)
        header = struct.pack(">II", 29, height) + chunks[1][1][8:]
        data = join([chunks[0], (b"IHDR", header), (b"IDAT", bomb.compress(rows) + bomb.flush()), chunks[-1]])
    with refused(CorruptImageError, "damaged"):
        read_picture(data)


def test_16_bits_of_an_iphone_picture_are_refused() -> None:
    header, *others = split(Png.random(6, 16, 0).encode())
    pixels = zlib.decompress(b"".join(part for kind, part in others if kind == b"IDAT"))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = (b"IDAT", deflate.compress(pixels) + deflate.flush())
    with refused(UnsupportedImageError, "16-bit PNG"):
        read_picture(join([(b"CgBI", b"P\0 \2"), header, raw, others[-1]]))


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
@pytest.mark.parametrize("at", [2, -1])
def test_a_second_header_or_palette_is_damage(kind: bytes, at: int) -> None:
    chunks = split(Png.random(3, 8, 0).encode())
    chunks.insert(at, next(pair for pair in chunks if pair[0] == kind))
    with refused(CorruptImageError, f"second chunk {kind.decode()}"):
        read_picture(join(chunks))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda chunks: [chunks[0], (b"FUNY", b""), *chunks[1:]], "critical chunk of unknown type FUNY"),
        (lambda chunks: chunks[1:], "begins with a chunk IDAT"),
        (lambda chunks: [chunks[0], chunks[-1]], "ends before its pixels"),
        (lambda chunks: [chunks[0], (b"12 4", b""), *chunks[1:]], "impossible type"),
        (lambda chunks: [chunks[0], chunks[1], (b"tEXt", b"a\0b"), *chunks[1:]], "IDAT do not follow"),
        (lambda chunks: [(b"IHDR", b"short"), *chunks[1:]], "IHDR has 5 bytes"),
    ],
    ids=["critical", "no header", "no pixels", "no type", "two runs", "short header"],
)
def test_damage_of_the_structure_is_named(edit: Callable[[Chunks], Chunks], words: str) -> None:
    with refused(CorruptImageError, words):
        read_picture(join(edit(split(encoded(Image.fromarray(photo(5, 7, 1)), "PNG")))))


@pytest.mark.parametrize(
    "palette", [None, b"", bytes(10), bytes(771)], ids=["none", "empty", "part of a colour", "257 colours"]
)
@pytest.mark.parametrize("where", ["before the pixels", "behind them"])
def test_a_palette_picture_without_a_palette_is_damaged(palette: bytes | None, where: str) -> None:
    chunks = [pair for pair in split(Png.random(3, 8, 0).encode()) if pair[0] != b"PLTE"]
    assert opencv(join([chunks[0], (b"PLTE", bytes(768)), *chunks[1:]])).shape == (23, 29, 3)
    if palette is not None:
        chunks.insert(1 if where == "before the pixels" else -1, (b"PLTE", palette))
    with refused(CorruptImageError, "needs a palette of 1 to 256 colours"):
        read_picture(join(chunks))


def test_a_palette_behind_the_pixels_is_none() -> None:
    header, palette, *others = split(Png.random(3, 8, 0).encode())
    with refused(CorruptImageError, "and it has none"):
        read_picture(join([header, *others[:-1], palette, others[-1]]))


@pytest.mark.parametrize(("colour", "own"), [(0, 2), (2, 6), (4, None), (6, None)])
@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 7, 8])
def test_a_transparent_value_of_another_length_is_ignored(colour: int, own: int | None, length: int) -> None:
    png = Png.random(colour, 8, 0)
    data = png.encode((b"tRNS", bytes(length + (length == own))))
    assert np.array_equal(read_picture(data).pixels, png.rgb())
    assert np.array_equal(opencv(data), png.rgb())


def test_a_file_that_lacks_its_end_but_no_pixel_is_read() -> None:
    png = Png.random(2, 8, 0)
    data = png.encode(after=[(b"tEXt", b"Title\0x")])
    for cut in (4, 12, 20, 12 + 19):
        assert np.array_equal(read_picture(data[:-cut]).pixels, png.rgb())


def test_what_was_made_small_already_says_so_and_a_packet_that_was_turned(tmp_path: Path) -> None:
    from bdflow_rt.containers import decode_png, encode_png
    from tests.containers.build import insert_chunks, make_packet, same_packet

    packet = make_packet()
    data = encode_png(packet)
    with pytest.warns(UserWarning, match="a small picture that bdflow made"):
        assert np.array_equal(read_picture(data).pixels, packet.lr)
    for orientation in (1, 6):
        turned = insert_chunks(data, (b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)))
        if orientation == 1:
            assert same_packet(decode_png(turned), packet)
            continue
        with pytest.warns(UserWarning, match="turned by its metadata"):
            assert same_packet(decode_png(turned), packet)
