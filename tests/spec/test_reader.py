"""Every vector of `spec/vectors`, read by a reader that was written from the pages alone."""

import ast
import hashlib
import io
import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.spec import reader

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
ENTRIES: list[dict[str, Any]] = json.loads((VECTORS / "index.json").read_text(encoding="utf-8"))
SOUND = [entry for entry in ENTRIES if "error" not in entry]
HOSTILE = [entry for entry in ENTRIES if "error" in entry]


def header_values(header: reader.Header) -> dict[str, Any]:
    """The header's values under the names of index.json."""
    values: dict[str, Any] = {
        "model": header.model,
        "identity": header.identity.hex(),
        "scale": header.scale,
        "width": header.width,
        "height": header.height,
        "bits": header.bits,
        "z": {"temperature": header.latent.temperature, "seed": header.latent.seed},
        "colour": {
            "model": "grey" if header.colour.grey else "rgb",
            "primaries": header.colour.primaries,
            "transfer": header.colour.transfer,
            "matrix": header.colour.matrix,
            "full_range": header.colour.full_range,
        },
    }
    if header.video is None:
        return values | {"lr_crc32": header.lr_crc32, "profile_crc32": header.profile_crc32}
    return values | {
        "time_base": list(header.video.time_base),
        "codec": header.video.codec,
        "lr_is_exact": header.video.lr_is_exact,
        "frame_data": header.video.frame_data,
    }


def sha256(data: bytes | None) -> str | None:
    """The digest in hexadecimal, or None as in index.json."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def imported_modules(path: Path) -> set[str]:
    """The modules that the import statements of a source file name; relative imports and `__import__` fail."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(str(node.module))
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "eval", "exec")
    return modules


@pytest.mark.parametrize("entry", SOUND, ids=lambda entry: entry["file"])
def test_a_sound_file_gives_the_noted_values(entry: dict[str, Any]) -> None:
    data = (VECTORS / entry["file"]).read_bytes()
    if entry["kind"] == "header":
        header = reader.read_header(data)
        assert header.length == len(data)
        assert header_values(header) == entry["header"]
        return
    picture = reader.read_picture(data)
    reader.check_unedited(picture)
    h, w = picture.header.lr_size
    assert header_values(picture.header) == entry["header"]
    assert [h, w] == entry["lr_size"]
    assert len(picture.lr) == h * w * 3
    assert sha256(picture.lr) == entry["lr_sha256"]
    assert sha256(picture.boundary) == entry["boundary_sha256"]
    assert sha256(picture.icc_profile) == entry["icc_sha256"]


@pytest.mark.parametrize("entry", HOSTILE, ids=lambda entry: entry["file"])
def test_a_hostile_file_is_refused_with_the_noted_error(entry: dict[str, Any]) -> None:
    data = (VECTORS / entry["file"]).read_bytes()
    expected = getattr(reader, entry["error"])
    if entry["kind"] == "header":
        with pytest.raises(reader.ReadError) as raised:
            reader.read_header(data)
    elif expected is reader.EditedPictureError:
        picture = reader.read_picture(data)
        with pytest.raises(reader.ReadError) as raised:
            reader.check_unedited(picture)
    else:
        with pytest.raises(reader.ReadError) as raised:
            reader.read_picture(data)
    assert raised.type is expected


@pytest.mark.parametrize("interlaced", [0, 1], ids=["plain", "adam7"])
def test_pixels_equal_those_of_pillow_for_every_filter(interlaced: int) -> None:
    header = (VECTORS / "headers" / "0.bin").read_bytes()
    # Sizes of 1 to 9 leave some passes of Adam7 without pixels.
    generator = random.Random(20)
    for w in range(1, 10):
        for h in range(1, 10):
            fixed = header[:11] + bytes([2]) + header[12:20] + struct.pack(">IIBB", 2 * w, 2 * h, 0, 0)
            packet = fixed + header[30:-4]
            packet += struct.pack(">I", zlib.crc32(packet))
            passes = reader.ADAM7 if interlaced else ((0, 0, 1, 1),)
            sizes = [(len(range(y, h, dy)), len(range(x, w, dx))) for x, y, dx, dy in passes]
            # Whatever bytes follow a row's filter are a filtered row.
            rows = [columns for count, columns in sizes if columns for _ in range(count)]
            filtered = b"".join(bytes([generator.randrange(5)]) + generator.randbytes(3 * columns) for columns in rows)
            data = (
                reader.PNG_SIGNATURE
                + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, interlaced))
                + chunk(b"bdFL", packet)
                + chunk(b"IDAT", zlib.compress(filtered))
                + chunk(b"IEND", b"")
            )
            with Image.open(io.BytesIO(data)) as image:
                assert reader.read_picture(data).lr == image.tobytes()


def test_a_picture_has_at_most_262144_chunks() -> None:
    data = (VECTORS / "maps" / "0-bits.png").read_bytes()
    at = len(reader.PNG_SIGNATURE) + 25
    for count, error in ((262_144 - 4, None), (262_144 - 3, reader.CorruptPacketError)):
        flooded = data[:at] + chunk(b"teXt", b"") * count + data[at:]
        if error is None:
            assert reader.read_picture(flooded).lr == reader.read_picture(data).lr
        else:
            with pytest.raises(error):
                reader.read_picture(flooded)


def test_a_picture_above_the_limit_is_refused() -> None:
    data = (VECTORS / "maps" / "0-bits.png").read_bytes()
    assert reader.read_picture(data, max_hr_pixels=46 * 26).header.lr_size == (13, 23)
    with pytest.raises(ValueError, match="above the limit"):
        reader.read_picture(data, max_hr_pixels=46 * 26 - 1)


def test_reader_imports_nothing_of_the_runtime() -> None:
    assert imported_modules(Path(reader.__file__)) == {"PIL", "dataclasses", "io", "re", "struct", "zlib"}
    assert not any(name.split(".")[0] == "bdflow_rt" for name in imported_modules(Path(__file__)))
