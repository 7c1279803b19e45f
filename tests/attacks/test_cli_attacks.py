"""Every kind of bad input, from the command line to its exit code: one line, no output, no trace.

The faults themselves are tested one by one beside the readers; here a user meets them.
"""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bdflow_rt.containers import read_packet
from tests.cli.build import bdflow, contents, failed, succeeded
from tests.containers.build import (
    edit_chunk,
    encoded,
    huge_png,
    join,
    ordinary_user,
    patch_header,
    repair_header,
    split,
    with_header,
)
from tests.support import photo

ARGUMENTS, INPUT, OUTPUT, PACKET, MODEL = 2, 3, 4, 5, 6
"""Exit codes of the classes of errors."""
PHOTO = Image.fromarray(photo(63, 65, 1))
FRAMES = [Image.fromarray(photo(13, 17, seed)) for seed in range(3)]
DEEP = photo(13, 17, 3).astype(np.uint16) * 257
ALPHA = np.dstack([photo(13, 17, 3), np.full((13, 17), 254, np.uint8)])

PICTURES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty (0 bytes)"),
    "text": (b"hello, world", "not a picture"),
    "truncated png": (encoded(PHOTO, "PNG")[:2000], "damaged or cut off"),
    "truncated jpeg": (encoded(PHOTO, "JPEG")[:1000], "damaged or cut off"),
    "truncated webp": (encoded(PHOTO, "WEBP")[:500], "damaged or cut off"),
    "huge png": (huge_png(100_000, 100_000), "100000 x 100000"),
    "huge ppm": (b"P6 2000000 2000000 255 ", "2000000 x 2000000"),
    "png of zero width": (huge_png(0, 5), "no pixels"),
    "ppm of zero height": (b"P6 5 0 255 ", "no pixels"),
    "animated gif": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), "animated"),
    "animated png": (encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "animated"),
    "animated webp": (encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), "animated"),
    "tiff of several pages": (encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), "several pages"),
    "cmyk jpeg": (encoded(PHOTO.convert("CMYK"), "JPEG"), "CMYK"),
    "cmyk tiff": (encoded(PHOTO.convert("CMYK"), "TIFF"), "CMYK"),
    "16-bit rgb png": (cv2.imencode(".png", DEEP)[1].tobytes(), "16-bit"),
    "16-bit grey png": (cv2.imencode(".png", DEEP[..., 0])[1].tobytes(), "16-bit"),
    "16-bit tiff": (cv2.imencode(".tiff", DEEP)[1].tobytes(), "16 bits"),
    "transparent rgb": (encoded(Image.fromarray(ALPHA), "PNG"), "--background"),
    "transparent grey": (encoded(Image.fromarray(ALPHA).convert("LA"), "PNG"), "--background"),
    "transparent palette": (encoded(PHOTO.quantize(17), "PNG", transparency=3), "--background"),
    "transparent 1-bit": (encoded(PHOTO.convert("1"), "PNG", transparency=0), "--background"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
}
"""Name: a file that cannot be made small, and a word of the reason."""


@pytest.fixture(scope="module")
def made(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, the packet made of it, and an older output."""
    folder = tmp_path_factory.mktemp("made")
    PHOTO.save(folder / "hr.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_ZOO", str(tiny_zoo))
        succeeded("downscale", folder / "hr.png", "-o", folder / "lr.png")
    (folder / "out.png").write_bytes(b"old")
    return folder


@pytest.fixture
def folder(zoo: Path, made: Path, tmp_path: Path) -> Path:
    """A copy of those for one test, which must all survive."""
    return Path(shutil.copytree(made, tmp_path / "work"))


def refused(folder: Path, code: int, *words: str, command: str, source: str, target: str = "out.png") -> None:
    """Check that a command fails as it should and changes nothing under the folder."""
    before = contents(folder)
    failed(bdflow(command, folder / source, "-o", folder / target, "--overwrite"), code, *words)
    assert contents(folder) == before


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_cannot_be_made_small(folder: Path, name: str) -> None:
    data, word = PICTURES[name]
    (folder / "bad").write_bytes(data)
    refused(folder, INPUT, "bad", word, command="downscale", source="bad")


@pytest.mark.parametrize("command", ["downscale", "upscale"])
@pytest.mark.parametrize("name", ["missing.png", "missing/in.png", "hr.png/in.png", "n" * 300, "a\0b", "", "link.png"])
def test_inputs_that_are_no_file(folder: Path, command: str, name: str) -> None:
    (folder / "link.png").symlink_to("nowhere.png")
    refused(folder, INPUT, command=command, source=name)


@pytest.mark.parametrize("command", ["downscale", "upscale"])
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/proc/self/mem", "/proc/self/fd"])
def test_devices_are_no_pictures(folder: Path, command: str, name: str) -> None:
    refused(folder, INPUT, name, command=command, source=name)


@pytest.mark.parametrize("command", ["downscale", "upscale"])
def test_an_input_that_may_not_be_read(zoo: Path, open_folder: Path, command: str) -> None:
    (open_folder / "secret.png").write_bytes(encoded(PHOTO, "PNG"))
    (open_folder / "secret.png").chmod(0)
    with ordinary_user():
        done = bdflow(command, open_folder / "secret.png", "-o", open_folder / "out.png")
    failed(done, INPUT, "secret.png", "Permission denied")
    assert sorted(contents(open_folder)) == ["secret.png"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF"])
def test_ordinary_pictures_cannot_be_restored(folder: Path, kind: str) -> None:
    (folder / "plain").write_bytes(encoded(PHOTO, kind))
    words = "this picture was not made by bdflow, so its detail cannot be restored"
    refused(folder, PACKET, words, command="upscale", source="plain")
    failed(bdflow("info", folder / "plain"), PACKET, words)


def header_edit(offset: int, new: bytes) -> Callable[[bytes], bytes]:
    """Changes bytes of the header at an offset and makes its CRC right again."""

    def edit(png: bytes) -> bytes:
        (length,) = struct.unpack_from(">I", dict(split(png))[b"bdFL"], 4)
        return edit_chunk(
            png,
            b"bdFL",
            lambda data: repair_header(data[:offset] + new + data[offset + len(new) : length]) + data[length:],
        )

    return edit


def resaved(change: Callable[[Image.Image], Image.Image]) -> Callable[[bytes], bytes]:
    """Edits the small picture as a program does that keeps the chunk."""

    def edit(png: bytes) -> bytes:
        kept = dict(split(png))[b"bdFL"]
        with Image.open(io.BytesIO(png)) as image:
            chunks = split(encoded(change(image), "PNG"))
        return join([chunks[0], (b"bdFL", kept), *chunks[1:]])

    return edit


def flipped(png: bytes) -> bytes:
    """The packet with one bit of its chunk changed and the CRC left as it was."""
    at = png.index(b"bdFL") + 30
    return png[:at] + bytes([png[at] ^ 1]) + png[at + 1 :]


def one_pixel_darker(image: Image.Image) -> Image.Image:
    pixels = np.array(image)
    pixels[3, 5] //= 2
    return Image.fromarray(pixels)


PACKETS: dict[str, tuple[Callable[[bytes], bytes], int, list[str]]] = {
    "cut off": (lambda png: png[:-40], PACKET, ["cut off"]),
    "wrong crc": (flipped, PACKET, ["CRC of its chunk bdFL"]),
    "wrong crc of the header": (
        lambda png: edit_chunk(png, b"bdFL", lambda data: data[:20] + b"\7" + data[21:]),
        PACKET,
        ["header is damaged", "CRC"],
    ),
    "chunk length beyond the file": (
        lambda png: png.replace(struct.pack(">I", len(dict(split(png))[b"bdFL"])) + b"bdFL", b"\x7f\0\0\0bdFL"),
        PACKET,
        ["claims"],
    ),
    "header length": (
        lambda png: edit_chunk(png, b"bdFL", lambda data: data[:6] + b"\0\x40" + data[8:]),
        PACKET,
        ["header is damaged"],
    ),
    "empty chunk": (lambda png: edit_chunk(png, b"bdFL", lambda _: b""), PACKET, ["ends after 0 bytes"]),
    "newer version": (header_edit(8, b"\0\2"), PACKET, ["version 2", "newer bdflow-rt"]),
    "impossible model": (header_edit(34, b"BDFLOW"), PACKET, ["model is 'BDFLOW"]),
    "model that is not here": (
        lambda png: header_edit(12, bytes(8))(header_edit(34, b"nobody-")(png)),
        MODEL,
        ["nobody-", "which is not here", "BDFLOW_ZOO"],
    ),
    "another identity of the model": (header_edit(12, bytes(8)), MODEL, ["0000000000000000", "Add the folder"]),
    "impossible scale": (header_edit(11, b"\3"), PACKET, ["scale is 3"]),
    "scale that contradicts the size": (header_edit(11, b"\2"), PACKET, ["17 x 16", "33 x 32"]),
    "scale and size that contradict the model": (
        lambda png: header_edit(20, struct.pack(">II", 34, 32))(header_edit(11, b"\2")(png)),
        PACKET,
        ["scale 2", "scale 4"],
    ),
    "width of zero": (header_edit(20, bytes(4)), PACKET, ["width is 0"]),
    "size that contradicts the picture": (header_edit(20, struct.pack(">I", 69)), PACKET, ["18 x 16"]),
    "huge size": (header_edit(20, struct.pack(">II", 2**31 - 1, 2**31 - 1)), INPUT, ["--max-pixels"]),
    "impossible bits": (header_edit(29, b"\x09"), PACKET, ["bits is 9"]),
    "bits that contradict the map": (header_edit(29, b"\2"), PACKET, ["boundary map"]),
    "bits that contradict the model": (
        lambda png: edit_chunk(
            header_edit(28, bytes(2))(png), b"bdFL", lambda data: data[: struct.unpack_from(">I", data, 4)[0]]
        ),
        PACKET,
        ["0 bits", "1 bit."],
    ),
    "trailing bytes in the chunk": (lambda png: edit_chunk(png, b"bdFL", lambda data: data + b"x"), PACKET, ["map"]),
    "two chunks": (
        lambda png: join([entry for entry in split(png) for _ in range(1 + (entry[0] == b"bdFL"))]),
        PACKET,
        ["2 chunks"],
    ),
    "edited pixels": (resaved(one_pixel_darker), PACKET, ["edited", "--force"]),
    "mirrored": (resaved(lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), PACKET, ["edited"]),
    "resized": (resaved(lambda image: image.resize((34, 32))), PACKET, ["34 x 32", "resized"]),
    "saved as grey": (resaved(lambda image: image.convert("L")), PACKET, ["grey PNG", "saved it again"]),
    "saved with a palette": (resaved(lambda image: image.quantize(16)), PACKET, ["palette PNG"]),
}
"""Name: what was done to a good packet, the exit code, and words of the reason."""


@pytest.mark.parametrize("name", PACKETS)
def test_packets_that_cannot_be_restored(folder: Path, name: str) -> None:
    edit, code, words = PACKETS[name]
    good = (folder / "lr.png").read_bytes()
    bad = edit(good)
    assert bad != good
    (folder / "bad.png").write_bytes(bad)
    refused(folder, code, *words, command="upscale", source="bad.png")


def test_the_edits_above_spoil_nothing_else(folder: Path) -> None:
    packet = read_packet(folder / "lr.png")
    good = (folder / "lr.png").read_bytes()
    assert header_edit(8, b"\0\1")(good) == good
    assert with_header(good, patch_header(packet.header, 8, b"\0\1")) == good
    (folder / "again.png").write_bytes(resaved(lambda image: image)(good))
    succeeded("upscale", folder / "again.png", "-o", folder / "out.png", "--overwrite")


def test_an_edited_picture_is_restored_by_force(folder: Path) -> None:
    (folder / "bad.png").write_bytes(resaved(one_pixel_darker)((folder / "lr.png").read_bytes()))
    result = succeeded("upscale", folder / "bad.png", "-o", folder / "out.png", "--overwrite", "--force", "--json").json
    assert result["hr_size"] == [65, 63]


@pytest.mark.parametrize(
    ("target", "code", "word"),
    [
        ("missing/out.png", OUTPUT, "Create the folder"),
        ("hr.png/out.png", OUTPUT, "Create the folder"),
        ("", OUTPUT, "is a folder"),
        ("folder.png", OUTPUT, "is a folder"),
        ("/proc/out.png", OUTPUT, "/proc/out.png"),
        ("n" * 252 + ".png", OUTPUT, "too long"),
        ("a\0b.png", OUTPUT, "null"),
        ("loop.png", OUTPUT, "loop.png"),
        ("out.svg", ARGUMENTS, ".png"),
    ],
)
@pytest.mark.parametrize(("command", "source"), [("downscale", "hr.png"), ("upscale", "lr.png")])
def test_outputs_that_cannot_be_written(
    folder: Path, command: str, source: str, target: str, code: int, word: str
) -> None:
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    refused(folder, code, word, command=command, source=source, target=target)


@pytest.mark.parametrize(("command", "source"), [("downscale", "hr.png"), ("upscale", "lr.png")])
def test_an_output_that_may_not_be_written(
    zoo: Path, open_folder: Path, folder: Path, command: str, source: str
) -> None:
    for name in ("hr.png", "lr.png"):
        (open_folder / name).write_bytes((folder / name).read_bytes())
    (open_folder / "out.png").write_bytes(b"old")
    (open_folder / "locked").mkdir(mode=0o755)
    with ordinary_user():
        for target in ("out.png", "locked/out.png"):
            done = bdflow(command, open_folder / source, "-o", open_folder / target, "--overwrite")
            failed(done, OUTPUT, target)
    assert (open_folder / "out.png").read_bytes() == b"old"
    assert sorted(contents(open_folder)) == ["hr.png", "locked", "lr.png", "out.png"]


@pytest.mark.parametrize("way", ["same name", "other spelling", "symbolic link", "hard link"])
@pytest.mark.parametrize(("command", "source"), [("downscale", "hr.png"), ("upscale", "lr.png")])
def test_an_output_that_is_the_input(folder: Path, command: str, source: str, way: str) -> None:
    if way == "symbolic link":
        (folder / "link.png").symlink_to(source)
    elif way == "hard link":
        (folder / "link.png").hardlink_to(folder / source)
    target = {"same name": source, "other spelling": f"../work/{source}"}.get(way, "link.png")
    refused(folder, OUTPUT, "same file as the input", command=command, source=source, target=target)


@pytest.mark.parametrize(("command", "source"), [("downscale", "hr.png"), ("upscale", "lr.png")])
def test_a_full_device(folder: Path, command: str, source: str) -> None:
    (folder / "full.png").symlink_to("/dev/full")
    refused(folder, OUTPUT, "No space left", command=command, source=source, target="full.png")


def test_what_pillow_says_to_programmers_is_not_said_to_people(zoo: Path, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(ALPHA[..., :3]), "TIFF")
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    done = bdflow("downscale", tmp_path / "cut.tif", "-o", tmp_path / "small.png")
    assert (done.code, done.err.count("\n")) == (3, 1), done.err
    assert "warning" not in done.err
