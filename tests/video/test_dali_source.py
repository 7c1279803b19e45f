"""DALI beside PyAV on the CPU: the same frames in the same order at the same times, and refusals of all else."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest

from bdflow_rt.containers import read_picture, write_picture
from bdflow_rt.errors import CorruptImageError, CorruptVideoError, UnsupportedImageError, UnsupportedVideoError
from bdflow_rt.picture import Picture, sample_picture
from bdflow_rt.video import downscale_video
from bdflow_rt.video.clock import Span
from bdflow_rt.video.convert import Colour, from_picture
from bdflow_rt.video.dali_source import MAX_MEAN_DIFFERENCE, DaliPictureSource, DaliSource
from bdflow_rt.video.frames import Frame, TrackPacket
from bdflow_rt.video.pictures import PictureSource
from bdflow_rt.video.select import Decoder, open_frames
from tests.video.clip_writer import Clip, ColourTags, Video, write_video
from tests.video.clips import CLIPS, Clips
from tests.video.numbered import frame_number

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None,
    reason="NVIDIA DALI is not installed (extra dali)",
)

BT601, BT709 = ColourTags(6, 1, 6, 6), ColourTags(1, 1, 1, 1)
BT601_FULL, BT2020 = ColourTags(6, 2, 6, 6), ColourTags(9, 1, 9, 14)
VP9 = "libvpx-vp9"
VARIABLE = tuple(40 * index + index * index for index in range(24))
"""Milliseconds of a variable frame rate."""
TAKEN: dict[str, tuple[str, Video]] = {
    "vp9": (".webm", Video(VP9, tags=BT601)),
    "full": (".webm", Video(VP9, tags=BT601_FULL)),
    "untagged": (".webm", Video(VP9)),
    "444": (".webm", Video(VP9, tags=BT601, pixel_format="yuv444p")),
    "rgb": (".webm", Video(VP9, pixel_format="gbrp", tags=ColourTags(0, 2, 1, 13))),
    "odd": (".webm", Video(VP9, tags=BT601, size=(193, 131))),
    "variable": (".mkv", Video(VP9, tags=BT601, time_base=Fraction(1, 1000), pts=VARIABLE)),
    "late": (".mkv", Video(VP9, tags=BT601, time_base=Fraction(1, 1000), pts=tuple(5003 + 40 * n for n in range(24)))),
    "mjpeg_mp4": (".mp4", Video("mjpeg", pixel_format="yuvj420p", tags=ColourTags(5, 2))),
    "mjpeg_422": (".mov", Video("mjpeg", pixel_format="yuvj422p", tags=ColourTags(5, 2))),
}
"""Clips that DALI decodes by their tags, besides those of all tests."""


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """The clips of `TAKEN`, by name."""
    return Clips(tmp_path_factory.mktemp("dali"))


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (suffix, video) in TAKEN.items():
        monkeypatch.setitem(CLIPS, f"dali_{name}", Clip(suffix, partial(write_video, video=video, special=name)))


def frames_of(path: Path, decoder: Any, **options: Any) -> tuple[Any, list[Frame]]:
    """What is said of a clip, and its frames."""
    source = open_frames(path, decoder=decoder, **options)
    frames = [item for item in source if isinstance(item, Frame)]
    source.close()
    return source, frames


@pytest.mark.parametrize("name", ["vp8", "mjpeg", *(f"dali_{name}" for name in TAKEN)])
def test_dali_and_pyav_give_the_same_frames_in_the_same_order(name: str, clips: Clips, more: Clips) -> None:
    path, facts = (more if name.startswith("dali_") else clips)[name]
    of_pyav, expected = frames_of(path, "pyav")
    of_dali, actual = frames_of(path, "dali")
    assert [frame_number(frame.pixels) for frame in actual] == list(facts.numbers)
    assert [(frame.pts, frame.duration) for frame in actual] == [(frame.pts, frame.duration) for frame in expected]
    for left, right in zip(actual, expected, strict=True):
        assert np.abs(left.pixels.astype(int) - right.pixels).mean() <= MAX_MEAN_DIFFERENCE
    assert (of_dali.info, of_dali.extras.metadata) == (of_pyav.info, of_pyav.extras.metadata)
    assert (of_dali.decoder, of_dali.decoder_reason) == ("dali", "it was asked for")


def write_photos(path: Path, size: tuple[int, int], *, tags: ColourTags, count: int = 3) -> Path:
    """A VP9 clip with the statistics of photographs."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(VP9, rate=25, options={"crf": "10", "cpu-used": "8", "deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tags[:2]
        levels: Any = "full" if tags.range == 2 else "limited"
        for index in range(count):
            pixels = sample_picture(size[1], size[0], seed=index)
            frame = from_picture(pixels, "yuv420p", Colour("bt601", levels))
            frame.colorspace, frame.color_range, frame.pts = *tags[:2], index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("tags", [BT601, BT601_FULL], ids=["limited", "full"])
@pytest.mark.parametrize("size", [(320, 240), (241, 319)])
def test_photographs_differ_by_their_interpolated_chroma_alone(
    tags: ColourTags, size: tuple[int, int], tmp_path: Path
) -> None:
    """The range of the tags counts for DALI: without it the mean would be off by more than 5 levels."""
    path = write_photos(tmp_path / "photos.webm", size, tags=tags)
    for left, right in zip(frames_of(path, "dali")[1], frames_of(path, "pyav")[1], strict=True):
        difference = left.pixels.astype(int) - right.pixels
        assert np.abs(difference).mean() < MAX_MEAN_DIFFERENCE
        assert np.abs(difference.mean(axis=(0, 1))).max() < 0.3


@pytest.mark.parametrize(
    ("video", "name"), [(Video(VP9, tags=BT709), r"BT\.709"), (Video(VP9, tags=BT2020), r"BT\.2020"),
                        (Video(VP9, size=(1280, 720), count=2), r"BT\.709")],
    ids=["bt709", "bt2020", "untagged HD"],
)  # fmt: skip
def test_colours_that_dali_would_convert_wrongly_are_refused(video: Video, name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.webm", video, "")
    with pytest.raises(UnsupportedVideoError, match=f"colours of {name}, which DALI"):
        DaliSource(tmp_path / "clip.webm")


def test_the_matrix_is_what_dali_gets_wrong_and_a_key_frame_tells(
    tmp_path: Path, clips: Clips, monkeypatch: Any
) -> None:
    """Where the tags were believed, the first frame would still be caught; should DALI learn matrices, this fails."""
    monkeypatch.setattr("bdflow_rt.video.dali_source._CONVERTED", (0, 1, 6, 9))
    with pytest.raises(UnsupportedVideoError, match=r"key frame differs by \d+\.\d levels"):
        DaliSource(clips["vp9"][0])


def test_codecs_that_dali_does_not_decode_on_a_cpu_are_refused(clips: Clips) -> None:
    for name in ("h264", "ffv1", "hevc"):
        with pytest.raises(UnsupportedVideoError, match="DALI decodes vp8, vp9, mjpeg alone"):
            DaliSource(clips[name][0])


@pytest.mark.parametrize(("codec", "tags"), [(VP9, BT601), ("libvpx", ColourTags()), ("mjpeg", ColourTags(5, 2))])
def test_a_change_of_size_for_which_dali_has_no_memory_is_refused(codec: str, tags: ColourTags, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mkv"), "w") as output:
        made = [tmp_path / "0.mkv", tmp_path / "1.mkv"]
        kind = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for path, size in zip(made, [(96, 64), (160, 96)], strict=True):
            write_video(path, Video(codec, tags=tags, size=size, pixel_format=kind), "")
        stream: Any = None
        for part, path in enumerate(made):
            with av.open(str(path)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size and packet.pts is not None:
                        packet.pts += 1000 * part
                        packet.dts, packet.stream = packet.pts, stream
                        output.mux(packet)
    with pytest.raises(UnsupportedVideoError, match=r"changes its size from 96 x 64 to 160 x 96;"):
        DaliSource(tmp_path / "clip.mkv")


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("name", ["empty", "text", "audio_only", "no_frames_avi", "size_lie", "interlaced", "pq"])
def test_what_pyav_refuses_is_refused_in_the_same_words(name: str, clips: Clips) -> None:
    path, _ = clips[name]
    with pytest.raises(Exception) as expected:
        open_frames(path, decoder="pyav")
    with pytest.raises(expected.type) as actual:
        open_frames(path, decoder="dali")
    assert str(actual.value) == str(expected.value)


def test_another_count_than_that_of_the_packets_is_refused(more: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DaliSource, "_survey", lambda *_: 25)
    with pytest.raises(CorruptVideoError, match="has 25 frames, and DALI finds 24"):
        DaliSource(more["dali_vp9"][0])


def test_frames_at_other_times_than_their_packets_are_refused(more: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline of another clip, with as many frames."""
    from bdflow_rt.video import dali_source

    pipeline = dali_source._video_pipeline(more["dali_variable"][0])
    monkeypatch.setattr(dali_source, "_video_pipeline", lambda _: pipeline)
    source = DaliSource(more["dali_vp9"][0])
    with pytest.raises(CorruptVideoError, match="where DALI gives the one of"):
        list(source)


def test_what_dali_cannot_decode_is_a_typed_error(more: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    from bdflow_rt.video import dali_source

    path = more["dali_vp9"][0].with_name("text.webm")
    path.write_bytes(b"no video" * 100)
    pipeline = dali_source._video_pipeline
    monkeypatch.setattr(dali_source, "_video_pipeline", lambda _: pipeline(path))
    with pytest.raises(CorruptVideoError, match="cannot be decoded by DALI") as caught:
        DaliSource(more["dali_vp9"][0])
    assert "dali_source.py" not in str(caught.value)


def test_a_part_of_a_clip_and_its_audio_come_as_with_pyav(clips: Clips, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(clips["vp8"][0])) as video, av.open(str(clips["audio_only"][0])) as audio:
        output = av.open(str(path), "w")
        sources = [video.streams.video[0], audio.streams.audio[0]]
        streams = {source: output.add_stream_from_template(source) for source in sources}
        for packet in sorted(
            (one for file in (video, audio) for one in file.demux() if one.size),
            key=lambda one: float((one.dts or 0) * (one.time_base or 1)),
        ):
            packet.stream = streams[packet.stream]
            output.mux(packet)
        output.close()
    span = Span(0.25, 0.5)
    items = {decoder: list(open_frames(path, decoder=decoder, span=span)) for decoder in get_args(Decoder)[1:]}
    frames, packets = (
        {decoder: [of(item) for item in found if isinstance(item, kind)] for decoder, found in items.items()}
        for kind, of in (
            (Frame, lambda frame: frame.pts),
            (TrackPacket, lambda item: (item.packet.pts, bytes(item.packet))),
        )
    )
    assert (frames["dali"], packets["dali"]) == (frames["pyav"], packets["pyav"])
    assert len(frames["dali"]) == 12
    assert packets["dali"]


def test_a_clip_is_downscaled_through_dali(more: Clips, tmp_path: Path) -> None:
    from bdflow_rt.rescaler import Rescaler

    path, facts = more["dali_vp9"]
    with Rescaler.from_pretrained("bdflow-x2-fast") as rescaler:
        result = downscale_video(path, tmp_path / "lr.mkv", rescaler, decoder="dali")
    assert (result.frames, result.decoder, result.decoder_reason) == (facts.frames, "dali", "it was asked for")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four pictures of both formats that DALI takes, one of them grey."""
    from PIL import Image

    for index, name in enumerate(["p_0.png", "p_1.jpg", "p_3.jpg"]):
        write_picture(tmp_path / name, Picture(sample_picture(61, 83, seed=index)))
    Image.fromarray(sample_picture(61, 83)).convert("L").save(tmp_path / "p_2.png")
    Image.fromarray(sample_picture(61, 83)).save(tmp_path / "p_4.jpg", quality=70, subsampling=2)
    return tmp_path


def test_dali_decodes_plain_pictures_to_the_pixels_of_read_picture(photos: Path) -> None:
    source = DaliPictureSource(photos, fps=25)
    frames = [frame for frame in source if isinstance(frame, Frame)]
    assert [frame.pts for frame in frames] == [0, 1, 2, 3, 4]
    for frame, path in zip(frames, sorted(photos.glob("p_*")), strict=True):
        np.testing.assert_array_equal(frame.pixels, read_picture(path).pixels)


@pytest.mark.parametrize("kind", ["palette", "alpha", "16 bits", "turned", "profile", "tiff", "cmyk"])
def test_pictures_that_dali_would_alter_are_refused(kind: str, photos: Path) -> None:
    from PIL import Image, ImageCms

    image = Image.fromarray(sample_picture(61, 83))
    path = photos / ("p_5.tif" if kind == "tiff" else "p_5.jpg" if kind in ("turned", "cmyk") else "p_5.png")
    options: dict[str, Any] = {}
    if kind == "palette":
        image = image.quantize(16)
    elif kind == "alpha":
        image.putalpha(128)
    elif kind == "16 bits":
        image = Image.fromarray(np.zeros((61, 83), np.uint16))
    elif kind == "turned":
        options["exif"] = Image.Exif()
        options["exif"][274] = 6
    elif kind == "profile":
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    elif kind == "cmyk":
        image = image.convert("CMYK")
    image.save(path, **options)
    with pytest.raises(UnsupportedImageError, match="not for DALI"):
        list(DaliPictureSource(photos, fps=25))


def test_a_damaged_png_is_left_out_and_the_others_come(photos: Path) -> None:
    path = photos / "p_0.png"
    path.rename(photos / "p_5.png")
    damaged = bytearray((photos / "p_5.png").read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 40] = bytes(value ^ 0x5A for value in damaged[middle : middle + 40])
    (photos / "p_5.png").write_bytes(damaged)
    write_picture(photos / "p_6.png", Picture(sample_picture(61, 83)))
    source = DaliPictureSource(photos, fps=25)
    with pytest.warns(UserWarning, match="cannot be decoded by DALI"):
        frames = [frame for frame in source if isinstance(frame, Frame)]
    assert [frame.pts for frame in frames] == [0, 1, 2, 3, 5]
    assert source.problems.damaged == 1
    with pytest.raises(CorruptImageError):
        list(DaliPictureSource(photos, fps=25, strict=True))
    assert isinstance(source, PictureSource)
