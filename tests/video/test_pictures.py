"""Numbered pictures in and out: which files, in which order, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.containers import read_picture, write_picture
from bdflow_rt.containers.icc import rgb_profile
from bdflow_rt.errors import (
    ArgumentError,
    BackendUnavailableError,
    CorruptImageError,
    CorruptVideoError,
    MissingFileError,
    OutputExistsError,
    UnsupportedImageError,
    UnsupportedVideoError,
    UnwritableOutputError,
)
from bdflow_rt.picture import Picture
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.video.clock import Span
from bdflow_rt.video.frames import Frame, Problems, TrackPacket, VideoInfo
from bdflow_rt.video.numbered import Pattern, find_pictures, is_sequence
from bdflow_rt.video.pictures import PictureOutput, PictureSource, frame_rate
from bdflow_rt.video.select import open_frames
from tests.cli.build import bdflow, failed, succeeded
from tests.video.numbered import draw_frame, frame_number

INFO = VideoInfo(96, 64, Fraction(1, 25))


def write(folder: Path, names: dict[str, int], size: tuple[int, int] = (96, 64)) -> Path:
    """Pictures of `draw_frame` by their file names."""
    folder.mkdir(exist_ok=True)
    for name, number in names.items():
        write_picture(folder / name, Picture(draw_frame(number, *size)))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, 8 to 12, that sort otherwise by letters than by numbers."""
    return write(tmp_path / "in", {f"shot 2 take_{number}.png": number for number in (12, 8, 11, 9, 10)})


def numbers_of(source: Any) -> list[int]:
    """What the pictures of a source say."""
    return [frame_number(frame.pixels) for frame in source]


@pytest.mark.parametrize("given", [".", "shot 2 take_%d.png", "shot 2 take_%01d.png"])
def test_pictures_come_in_the_order_in_which_people_count(folder: Path, given: str) -> None:
    source = PictureSource(folder / given, fps=25)
    assert numbers_of(source) == [8, 9, 10, 11, 12]
    assert (source.info.width, source.info.height, source.info.frames) == (96, 64, 5)


def test_every_format_that_is_read_may_be_in_a_sequence_and_other_files_beside_it(tmp_path: Path) -> None:
    names = {f"{number}.{suffix}": number for number, suffix in enumerate(["png", "jpg", "WEBP", "tif", "bmp", "ppm"])}
    folder = write(tmp_path / "in", names)
    for other in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (folder / other).write_bytes(b"no picture")
    (folder / "sub.png").mkdir()
    assert numbers_of(PictureSource(folder, fps=25)) == [0, 1, 2, 3, 4, 5]


def test_a_pattern_takes_no_other_numbering(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"a_0007.png": 1, "a_0008.png": 2, "a_9.png": 3, "a_00009.png": 4, "b_0009.png": 5})
    assert numbers_of(PictureSource(folder / "a_%04d.png", fps=25)) == [1, 2]
    assert Pattern.of(folder / "a_%04d.png").numbers() == [7, 8]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["a.png", "a_%5d.png", "a_%d_%d.png", "100%.png", "a_%s.png"])
def test_a_name_without_one_place_for_a_number_is_no_pattern(name: str, tmp_path: Path) -> None:
    assert Pattern.of(name) is None
    assert not is_sequence(tmp_path / name)
    with pytest.raises(ArgumentError, match="no place for the number"):
        PictureOutput(tmp_path / name, INFO, Problems())


def test_a_file_that_is_named_as_a_pattern_is_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"a_%d.png": 1})
    assert not is_sequence(tmp_path / "a_%d.png")


@pytest.mark.parametrize("given", [".", "a_%02d.png"])
def test_gaps_in_numbering_are_refused(tmp_path: Path, given: str) -> None:
    folder = write(tmp_path / "in", {f"a_{number:02}.png": number for number in (3, 4, 8, 9)})
    with pytest.raises(CorruptVideoError, match="3 pictures missing between numbers 4 and 8"):
        find_pictures(folder / given)


@pytest.mark.parametrize("given", [".", "a_%d.png", "missing", "missing/a_%d.png"])
def test_no_files_is_an_error(tmp_path: Path, given: str) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(MissingFileError):
        find_pictures(tmp_path / given)


def test_unequal_sizes_are_refused(folder: Path) -> None:
    write(folder, {"shot 2 take_13.png": 13}, size=(80, 64))
    source = PictureSource(folder, fps=25)
    with pytest.raises(UnsupportedVideoError, match=r"take_13.png' has 80 x 64 pixels, .* 96 x 64"):
        numbers_of(source)


def test_what_no_picture_may_be_is_refused_in_a_sequence_too(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((64, 96), np.uint16)).save(folder / "shot 2 take_13.png")
    with pytest.raises(UnsupportedImageError, match=r"more than 8 bits|16-bit"):
        numbers_of(PictureSource(folder, fps=25))


def test_a_colour_profile_is_converted_or_refused_and_never_lost(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = rgb_profile(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), colour="rgb")
    write_picture(tmp_path / "a_1.png", Picture(draw_frame(1, 96, 64), icc_profile=profile))
    with pytest.raises(UnsupportedVideoError, match="colour profile, which a video cannot carry"):
        PictureSource(tmp_path, fps=25)
    assert numbers_of(PictureSource(tmp_path, fps=25, colours="convert")) == [1]
    with pytest.warns(UserWarning, match="taken as sRGB, as asked"):
        assert numbers_of(PictureSource(tmp_path, fps=25, colours="assume")) == [1]


def test_a_damaged_picture_is_left_out_and_counted_or_raises_where_it_is_strict(folder: Path) -> None:
    path = folder / "shot 2 take_10.png"
    path.write_bytes(path.read_bytes()[:-40])
    source = PictureSource(folder, fps=25)
    with pytest.warns(UserWarning, match="damaged picture"):
        frames = list(source)
    assert [frame.pts for frame in frames if isinstance(frame, Frame)] == [0, 1, 3, 4]
    assert source.problems.damaged == 1
    with pytest.raises(CorruptImageError):
        numbers_of(PictureSource(folder, fps=25, strict=True))


def test_times_are_those_of_the_frame_rate_and_a_part_begins_at_0(folder: Path) -> None:
    source = PictureSource(folder, fps="30000/1001")
    assert source.info.time_base == Fraction(1001, 30000)
    assert [(frame.pts, frame.duration) for frame in source if isinstance(frame, Frame)] == [(n, 1) for n in range(5)]
    part = PictureSource(folder, fps=8, span=Span(0.125, 0.375))
    assert [(frame.pts, frame_number(frame.pixels)) for frame in part if isinstance(frame, Frame)] == [
        (0, 9), (1, 10), (2, 11),
    ]  # fmt: skip


@pytest.mark.parametrize("fps", [0, -1, 1001, float("nan"), float("inf"), "fast", "1/0", None, True, b"25"])
def test_what_is_no_frame_rate_is_refused(fps: Any) -> None:
    with pytest.raises(ArgumentError, match="pictures per second"):
        frame_rate(fps)


def test_selection_says_why_and_refuses_what_does_not_fit(folder: Path) -> None:
    source = open_frames(folder, fps=25)
    assert (source.decoder, source.decoder_reason) == ("pictures", PictureSource.decoder_reason)
    with pytest.raises(ArgumentError, match="nothing of time"):
        open_frames(folder)
    with pytest.raises(ArgumentError, match="'pyav', which reads video files"):
        open_frames(folder, fps=25, decoder="pyav")
    with pytest.raises(ArgumentError, match="one of auto, pyav, dali"):
        open_frames(folder, fps=25, decoder="opencv")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="for sequences of pictures"):
        open_frames(folder / "shot 2 take_8.png", fps=25)


def test_dali_that_is_missing_is_said_with_what_installs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match=r"not installed.*\[dali\]"):
        open_frames(folder, fps=25, decoder="dali")


def test_a_sink_writes_numbered_pictures_and_says_that_tracks_stay_behind(tmp_path: Path) -> None:
    problems = Problems()
    sink = PictureOutput(tmp_path / "out_%03d.png", INFO, problems)
    for number in (5, 6):
        sink.write([draw_frame(number, 96, 64)], number, 1)
    with pytest.warns(UserWarning, match="audio or subtitles"):
        sink.pass_on(TrackPacket(0, None))
    written = sorted(tmp_path.iterdir())
    assert sink.finish() == sum(path.stat().st_size for path in written)
    assert [path.name for path in written] == ["out_001.png", "out_002.png"]
    assert [frame_number(read_picture(path).pixels) for path in written] == [5, 6]
    with pytest.raises(OutputExistsError, match="2 pictures already"):
        PictureOutput(tmp_path / "out_%03d.png", INFO, problems)


def test_pictures_of_an_older_longer_video_go_when_they_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, {f"out_{number}.png": number for number in range(4)} | {"out_02.png": 9, "other_3.png": 9})
    sink = PictureOutput(tmp_path / "out_%d.png", INFO, Problems(), overwrite=True)
    sink.write([draw_frame(7, 96, 64)], 0, 1)
    sink.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other_3.png", "out_02.png", "out_1.png"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("out_%d.mp3", ArgumentError), ("out_%d", ArgumentError), ("missing/out_%d.png", UnwritableOutputError)],
)
def test_a_sink_that_cannot_be_written_is_refused_before_the_first_frame(
    tmp_path: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        PictureOutput(tmp_path / name, INFO, Problems())


def test_pictures_go_through_an_lr_video_and_come_back_as_pictures(folder: Path, tmp_path: Path) -> None:
    """Each restored picture is the one that the model makes of the original alone."""
    with Rescaler.from_pretrained("bdflow-x2-fast") as rescaler:
        result = downscale_video(folder, tmp_path / "lr.mkv", rescaler, fps=24)
        assert (result.frames, result.decoder) == (5, "pictures")
        back = upscale_video(tmp_path / "lr.mkv", tmp_path / "out_%d.png", rescaler)
        assert (back.frames, back.output_bytes) == (5, sum(one.stat().st_size for one in tmp_path.glob("out_*.png")))
        expected = rescaler.upscale(rescaler.downscale(draw_frame(8, 96, 64)))
        np.testing.assert_array_equal(read_picture(tmp_path / "out_1.png").pixels, expected)
        assert numbers_of(PictureSource(tmp_path / "out_%d.png", fps=24)) == [8, 9, 10, 11, 12]
        with pytest.raises(ArgumentError, match="encoding and resume"):
            upscale_video(tmp_path / "lr.mkv", tmp_path / "new_%d.png", rescaler, encoding=Encoding(codec="ffv1"))


def test_a_sequence_that_changed_is_not_continued(folder: Path) -> None:
    from bdflow_rt.video.resume import fingerprint

    before = fingerprint(folder)
    assert fingerprint(folder) == before
    write(folder, {"shot 2 take_13.png": 13})
    assert fingerprint(folder) != before


def test_the_command_line_takes_pictures_and_gives_them_back(folder: Path, tmp_path: Path) -> None:
    lr, out = tmp_path / "lr.mkv", tmp_path / "out_%04d.png"
    pattern = folder / "shot 2 take_%d.png"
    done = succeeded("downscale", pattern, "-o", lr, "--fps", "30000/1001", "-m", "bdflow-x2-fast", "--json").json
    assert (done["frames"], done["decoder"], done["hr_size"]) == (5, "pictures", [96, 64])
    assert done["input_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert succeeded("upscale", lr, "-o", out, "--json").json["frames"] == 5
    assert numbers_of(PictureSource(out, fps=25)) == [8, 9, 10, 11, 12]
    failed(bdflow("upscale", lr, "-o", out), 4, "5 pictures already")
    assert succeeded("downscale", folder, "-o", lr, "--fps", "8", "--convert-srgb", "--start", "0.25", "--overwrite",
                     "-m", "bdflow-x2-fast", "--json").json["frames"] == 3  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["{}/shot 2 take_%d.png"], 2, "--fps"),
        (["{}/shot 2 take_%d.png", "--fps", "fast"], 2, "fps is 'fast'"),
        (["{}/shot 2 take_%d.png", "--fps", "25", "--decoder", "pyav"], 2, "leave it out"),
        (["{}/other_%d.png", "--fps", "25"], 3, "no picture with a number in place of %d"),
        (["{}", "--fps", "25", "--background", "white"], 2, "--background is for pictures"),
        (["{}/shot 2 take_8.png", "--fps", "25"], 2, "--fps is for videos"),
        (["{}"], 3, "is a folder"),
    ],
)
def test_the_command_line_says_what_a_sequence_lacks(
    options: list[str], code: int, words: str, folder: Path, tmp_path: Path
) -> None:
    done = bdflow("downscale", *(option.format(folder) for option in options), "-o", tmp_path / "lr.mkv")
    failed(done, code, words)
