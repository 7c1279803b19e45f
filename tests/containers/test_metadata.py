"""Metadata that the small file does not hold is named, by format and kind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bdflow_rt.containers.image import read_picture
from tests.cli.build import succeeded

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(file, kind, **options)
    return file.getvalue()


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "Canon"
    return made


def texts(keyword: str = "Title", *, international: bool = False, compressed: bool = False) -> PngInfo:
    info = PngInfo()
    if international:
        info.add_itxt(keyword, "Ünder", zip=compressed)
    else:
        info.add_text(keyword, "Under", zip=compressed)
    return info


CASES = {
    "PNG, none": (saved("PNG"), ()),
    "PNG, tEXt": (saved("PNG", pnginfo=texts()), ("text",)),
    "PNG, zTXt": (saved("PNG", pnginfo=texts(compressed=True)), ("text",)),
    "PNG, iTXt": (saved("PNG", pnginfo=texts(international=True)), ("text",)),
    "PNG, XMP": (saved("PNG", pnginfo=texts("XML:com.adobe.xmp", international=True)), ("XMP",)),
    "PNG, eXIf and pHYs": (saved("PNG", exif=exif(), dpi=(300, 300)), ("EXIF", "resolution")),
    "JPEG, JFIF without a unit": (saved("JPEG"), ()),
    "JPEG, density": (saved("JPEG", dpi=(300, 300)), ("resolution",)),
    "JPEG, all": (
        saved("JPEG", exif=exif(), xmp=XMP, comment="by hand", dpi=(72, 72)),
        ("EXIF", "XMP", "resolution", "text"),
    ),
    "WebP, none": (saved("WEBP"), ()),
    "WebP, EXIF and XMP": (saved("WEBP", exif=exif(), xmp=XMP), ("EXIF", "XMP")),
    "GIF, comment": (saved("GIF", comment=b"by hand"), ("text",)),
    "TIFF, none": (saved("TIFF"), ()),
    "TIFF, XMP, title and density": (
        saved("TIFF", description="a facade", dpi=(300, 300), tiffinfo={700: XMP}),
        ("XMP", "resolution", "text"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_behind_is_named(case: str) -> None:
    data, kinds = CASES[case]
    assert read_picture(data).left_behind == kinds


def test_the_command_says_what_it_leaves_behind(tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(CASES["JPEG, all"][0])
    said = succeeded("downscale", tmp_path / "in.jpg", "-o", tmp_path / "out.png")
    assert "without the input's EXIF, XMP, resolution, text" in said.err
    said = succeeded("downscale", tmp_path / "in.jpg", "-o", tmp_path / "two.png", "--json")
    assert json.loads(said.out)["left_behind"] == ["EXIF", "XMP", "resolution", "text"]
