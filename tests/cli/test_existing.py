"""Outputs that exist: refused, replaced or left, and never lost by accident."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from bdflow_rt import Rescaler
from bdflow_rt.containers import read_packet
from tests.cli.build import bdflow, contents, failed, succeeded


@pytest.fixture
def small(zoo: Path, packet_bytes: bytes, tmp_path: Path) -> Path:
    """What downscale makes of the photograph."""
    (tmp_path / "lr.png").write_bytes(packet_bytes)
    return tmp_path / "lr.png"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Somebody's picture."""
    Image.new("RGB", (9, 9), "red").save(tmp_path / "old.png")
    return tmp_path / "old.png"


@pytest.mark.parametrize("command", ["downscale", "upscale"])
def test_an_existing_picture_is_lost(small: Path, source: Path, old: Path, tmp_path: Path, command: str) -> None:
    before = contents(tmp_path)
    given = source if command == "downscale" else small
    failed(bdflow(command, given, "-o", old), 4, "old.png' exists", "--overwrite", "--no-clobber")
    assert contents(tmp_path) == before
    done = succeeded(command, given, "-o", old, "--no-clobber")
    assert (done.out, done.err) == ("", f"bdflow: note: {old} exists and was left as it is.\n")
    assert contents(tmp_path) == before
    succeeded(command, given, "-o", old, "--overwrite")
    assert old.read_bytes() != before["old.png"]


def test_the_packet_of_another_picture_is_lost(small: Path, source: Path, old: Path) -> None:
    before = small.read_bytes()
    for given in (old, source):  # nor one of the same picture: the rule is one for all files
        failed(bdflow("downscale", given, "-o", small), 4, "lr.png' exists", "--overwrite")
        assert small.read_bytes() == before
    failed(bdflow("upscale", small, "-o", small), 4, "same file as the input")
    succeeded("downscale", source, "-o", small, "-m", "plain", "--overwrite")
    assert read_packet(small).header.model == "plain@1"


def test_what_is_left_is_left_before_any_model_is_loaded(zoo: Path, source: Path, old: Path) -> None:
    for given in (source, "nowhere.png"):
        done = succeeded("downscale", given, "-o", old, "--no-clobber", "-m", "no-such-model", "--json")
        assert done.json == {"input": str(given), "output": str(old), "skipped": True}
        assert done.err == ""


@pytest.mark.parametrize("command", ["downscale", "upscale"])
def test_both_at_once_contradict(small: Path, old: Path, command: str) -> None:
    done = bdflow(command, small, "-o", old, "--overwrite", "--no-clobber")
    assert (done.code, done.out) == (2, "")
    assert "--no-clobber and --overwrite contradict each other" in done.err


@pytest.mark.parametrize("option", ["--no-clobber", None])
def test_pipes_and_devices_are_never_existing(small: Path, source: Path, tmp_path: Path, option: str | None) -> None:
    options = () if option is None else (option,)
    succeeded("downscale", source, "-o", "/dev/null", *options)
    succeeded("upscale", small, "-o", "/dev/null", *options)
    (tmp_path / "null.png").symlink_to("/dev/null")
    succeeded("upscale", small, "-o", tmp_path / "null.png", *options)


@pytest.mark.parametrize("option", ["--no-clobber", None])
def test_an_output_made_meanwhile_is_kept(
    small: Path, tmp_path: Path, option: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscale = Rescaler.upscale

    def slowly(self: Rescaler, *args: object, **options: object) -> object:
        (tmp_path / "out.png").write_bytes(b"another program's")
        return upscale(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Rescaler, "upscale", slowly)
    done = bdflow("upscale", small, "-o", tmp_path / "out.png", *([] if option is None else [option]))
    assert done.code == (4 if option is None else 0)
    assert (tmp_path / "out.png").read_bytes() == b"another program's"


def test_a_link_to_a_picture_is_that_picture(small: Path, old: Path, tmp_path: Path) -> None:
    os.symlink(old, tmp_path / "link.png")
    failed(bdflow("upscale", small, "-o", tmp_path / "link.png"), 4, "link.png' exists")
    os.symlink(tmp_path / "new.png", tmp_path / "free.png")
    succeeded("upscale", small, "-o", tmp_path / "free.png")
    assert (tmp_path / "new.png").is_file()


def test_what_is_left_need_not_be_writable(zoo: Path, source: Path) -> None:
    # Not even root writes there. Downscale's own outputs end in .png, which nothing there does.
    done = succeeded("upscale", source, "-o", "/proc/version", "--format", "png", "--no-clobber")
    assert "exists and was left" in done.err
    failed(bdflow("upscale", source, "-o", "/proc/version", "--format", "png", "--overwrite"), 4, "cannot be written")
