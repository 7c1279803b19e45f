"""Frames through NVIDIA DALI on the CPU: VP8, VP9 and Motion JPEG clips, and numbered pictures.

DALI gives pixels alone. What a clip is, its timestamps and its other tracks come from PyAV, and every frame's time is
compared. DALI 2.4 converts to RGB by the tagged range, which 2.0 ignored, always by the matrix of BT.601, and with
chroma interpolated where spec/colour.md replicates it. Clips of another matrix are refused, and so are those whose key
frames come out with other colours.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from bdflow_rt.containers.colour import FileColour
from bdflow_rt.containers.decoders import open_picture
from bdflow_rt.containers.source import open_input
from bdflow_rt.errors import (
    BackendUnavailableError,
    CorruptImageError,
    CorruptVideoError,
    UnsupportedImageError,
    UnsupportedVideoError,
    plural,
    shorten,
)
from bdflow_rt.files import PathLike, as_path
from bdflow_rt.install import install_extra
from bdflow_rt.options import DEFAULT_MAX_PIXELS
from bdflow_rt.picture import UInt8Array
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.clock import Span
from bdflow_rt.video.convert import CODE_OF, colour_of, to_picture
from bdflow_rt.video.opened import open_video, typed_errors
from bdflow_rt.video.pictures import PictureSource

MAX_MEAN_DIFFERENCE = 2.0
"""Levels, of 255, by which a frame may differ from PyAV's on average: that of natural clips is near 0.5."""
_CODECS = ("vp8", "vp9", "mjpeg")
"""What DALI decodes on a CPU; it decodes others on a GPU alone."""
_CONVERTED = (0, CODE_OF["bt601"])
"""Matrices, 0 for RGB and grey, that DALI converts as they are tagged."""
_PLAIN = {"PNG": ("RGB", "L"), "JPEG": (("RGB", ""), ("L", ""))}
"""Format -> how Pillow is to read what is stored, where that is 8-bit RGB or grey."""
_OTHERWISE = "take decoder='pyav' (--decoder pyav)"


class DaliSource(AvSource):
    """A `FrameSource` of a VP8, VP9 or Motion JPEG clip whose pixels DALI decodes, on the CPU.

    Packets are counted before the first frame, and every frame's time is compared with its packet's. Key frames are
    decoded by PyAV too, and refused where they differ by more than `MAX_MEAN_DIFFERENCE`. Damage that DALI conceals is
    not counted.

    Args:
        path, span, strict, max_pixels: as for `AvSource`.

    Raises:
        BackendUnavailableError: DALI is not installed.
        UnsupportedVideoError: another codec, colours that DALI would convert wrongly, or frames of several sizes.
        CorruptVideoError: DALI cannot read it, or finds other frames than the file has.
        As `AvSource` besides.
    """

    decoder = "dali"
    _seekable = ()  # DALI decodes from the beginning on

    def __init__(
        self, path: PathLike, *, span: Span | None = None, strict: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        _check_installed()
        self._pipeline: Any = None
        self._due: deque[Any] = deque()  # packets whose frames are to come
        super().__init__(path, span=span, strict=strict, max_pixels=max_pixels)
        try:
            codec = self._check_codec()
            self.decoder_reason = f"DALI decodes {codec} on a CPU"
            self._colour = colour_of(self._first, name=self._name)
            self._keys: Any = av.CodecContext.create(codec, "r")
            self._origin = _time_of(self._due[0])
            packets = self._survey(path)
            with _dali_errors(self._name):
                self._pipeline = _video_pipeline(path)
                frames = self._pipeline.reader_meta("frames")["epoch_size"]
            if frames != packets:
                raise CorruptVideoError(
                    f"{self._name} has {plural(packets, 'frame')}, and DALI finds {frames}; {_OTHERWISE}."
                )
            self._first = self._next_frame()
            self._items = self._decoded()  # from the next packet on, without what PyAV has decoded already
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file and the decoders."""
        self._pipeline = None
        super().close()

    def _frames_of(self, packet: Any) -> list[av.VideoFrame]:
        if packet.size and not packet.is_discard:
            self._due.append(packet)
        if self._pipeline is None:  # PyAV decodes the first frame, which says what the clip is
            return super()._frames_of(packet)
        return [self._next_frame() for _ in range(len(self._due))]

    def _next_frame(self) -> av.VideoFrame:
        """The frame of the packet that is due, as RGB.

        Raises:
            CorruptVideoError: DALI cannot decode it, or gives one of another time.
            UnsupportedVideoError: it is a key frame with other colours.
        """
        packet = self._due.popleft()
        with _dali_errors(self._name):
            pixels, times = (output.as_array() for output in self._pipeline.run())
        picture = np.ascontiguousarray(pixels[0, 0])
        base, pts = Fraction(packet.time_base), _time_of(packet)
        if pts is not None and self._origin is not None:
            expected = float((pts - self._origin) * base)
            if abs(float(times.item()) - expected) > base:
                raise CorruptVideoError(
                    f"{self._name} has a frame {expected:.3f} s after its first, where DALI gives the one of "
                    f"{times.item():.3f} s; {_OTHERWISE}."
                )
        if packet.is_keyframe:
            self._check_key(packet, picture)
        frame = av.VideoFrame.from_numpy_buffer(picture, format="rgb24")
        frame.pts, frame.time_base, frame.duration = pts, base, packet.duration or 0
        return frame

    def _check_key(self, packet: Any, picture: UInt8Array) -> None:
        """Compare a key frame with what PyAV makes of its packet.

        Raises:
            UnsupportedVideoError: it has other colours.
        """
        import cv2

        with suppress(av.error.InvalidDataError):  # what DALI makes of damage cannot be compared
            for frame in self._keys.decode(packet):
                by_pyav = to_picture(frame, self._colour)
                difference = cv2.norm(picture, by_pyav, cv2.NORM_L1) / picture.size
                if difference > MAX_MEAN_DIFFERENCE:
                    raise UnsupportedVideoError(
                        f"{self._name} comes out of DALI with other colours: a key frame differs by {difference:.1f} "
                        f"levels on average, and {MAX_MEAN_DIFFERENCE:g} are allowed; {_OTHERWISE}."
                    )

    def _survey(self, path: PathLike) -> int:
        """How many frames the packets hold; their headers alone are decoded.

        Raises:
            CorruptVideoError: they cannot be read.
            UnsupportedVideoError: a frame has another size than the first, whose memory DALI would go by.
        """
        count, size = 0, (self._first.width, self._first.height)
        headers: Any = av.CodecContext.create(self._stream.codec_context.name, "r")
        headers.thread_count, headers.skip_frame = 1, "ALL"
        with open_video(path, max_pixels=self._max_pixels) as container, typed_errors(self._name):
            for packet in container.demux(container.streams[self._stream.index]):
                if not packet.size or packet.is_discard:
                    continue
                count += 1
                with suppress(av.error.InvalidDataError):  # of damage DALI says what it makes
                    headers.decode(packet)
                if headers.width and (headers.width, headers.height) != size:
                    raise UnsupportedVideoError(
                        f"{self._name} changes its size from {size[0]} x {size[1]} to {headers.width} x "
                        f"{headers.height}; cut it there, or scale it to one size first."
                    )
        return count

    def _check_codec(self) -> str:
        """The name of the codec.

        Raises:
            UnsupportedVideoError: DALI does not decode it on a CPU, or would convert its colours wrongly.
        """
        codec = self._stream.codec_context.name
        if codec not in _CODECS:
            raise UnsupportedVideoError(
                f"{self._name} has video of {codec}, and DALI decodes {', '.join(_CODECS)} alone on a CPU; "
                f"{_OTHERWISE}."
            )
        matrix = self.info.colour.matrix
        if matrix not in _CONVERTED:
            name = next(known.upper() for known, code in CODE_OF.items() if code == matrix)
            raise UnsupportedVideoError(
                f"{self._name} has colours of {name.replace('BT', 'BT.')}, which DALI would convert as if they were of "
                f"BT.601; {_OTHERWISE}."
            )
        return str(codec)


class DaliPictureSource(PictureSource):
    """A `FrameSource` of numbered pictures that DALI decodes, on the CPU: plain PNG and JPEG, 8-bit RGB or grey.

    Their headers are looked at as those of any picture; one with transparency, a palette, a colour profile, more bits
    or an orientation is refused, since DALI would alter it silently. So is a damaged PNG; DALI conceals damage inside
    a JPEG.

    Args and errors as `PictureSource`, and besides:

    Raises:
        BackendUnavailableError: DALI is not installed.
        UnsupportedImageError: a picture is not a plain one.
    """

    decoder = "dali"
    decoder_reason = "DALI decodes plain PNG and JPEG on a CPU"

    def __init__(self, path: PathLike, **options: Any) -> None:
        _check_installed()
        self._pipeline: Any = None
        super().__init__(path, **options)

    def close(self) -> None:
        """Let go of the decoder."""
        self._pipeline = None

    def _read(self, file: Path) -> UInt8Array:
        name = f"'{file}'"
        with open_input(file) as stream:
            image, facts = open_picture(stream, name=name, max_pixels=self._max_pixels)
            with image:
                stored = image.tile[0][3] if image.tile else None
                plain = stored in _PLAIN[image.format] if image.format in _PLAIN else False
                is_altered = image.has_transparency_data or facts.orientation != 1 or facts.has_others
                is_coloured = facts.colour != FileColour() and self._colours != "assume"
                if not plain or is_altered or is_coloured:
                    raise UnsupportedImageError(
                        f"{name} is no plain PNG or JPEG of 8 bits, in RGB or grey and without a colour profile, and "
                        "so not for DALI; leave the decoder out, which reads all kinds."
                    )
            stream.seek(0)
            data = stream.read()
        if self._pipeline is None:
            self._pipeline = _picture_pipeline()
        try:
            with _dali_errors(name):
                (decoded,) = self._pipeline.run(encoded=[np.frombuffer(data, np.uint8)])
                return np.ascontiguousarray(decoded.as_array()[0])
        except CorruptVideoError as error:
            self._pipeline = None  # DALI takes a pipeline that has failed out of use
            raise CorruptImageError(str(error)) from error


def _check_installed() -> None:
    """Check that there is a DALI to import.

    Raises:
        BackendUnavailableError: there is none.
    """
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        raise BackendUnavailableError(
            f"decoder is 'dali', and NVIDIA DALI is not installed. Install it: {install_extra('dali')}; or "
            f"{_OTHERWISE}."
        )


def _time_of(packet: Any) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


def _video_pipeline(path: PathLike) -> Any:
    """A DALI pipeline, each run of which gives the next frame, (1, 1, H, W, 3) uint8, and seconds since the first."""
    fn: Any = importlib.import_module("nvidia.dali.fn")
    pipeline = importlib.import_module("nvidia.dali").Pipeline(batch_size=1, num_threads=1, device_id=None)
    with pipeline:
        frames, times = fn.experimental.readers.video(
            filenames=[os.path.abspath(as_path(path))], sequence_length=1, enable_timestamps=True, device="cpu",
            name="frames",
        )  # fmt: skip
        pipeline.set_outputs(frames, times)
    pipeline.build()
    return pipeline


def _picture_pipeline() -> Any:
    """A DALI pipeline, each run of which decodes the file that it is given."""
    dali: Any = importlib.import_module("nvidia.dali")
    fn: Any = importlib.import_module("nvidia.dali.fn")
    pipeline = dali.Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        encoded = fn.external_source(name="encoded", device="cpu")
        pipeline.set_outputs(fn.decoders.image(encoded, device="cpu", output_type=dali.types.RGB))
    pipeline.build()
    return pipeline


@contextmanager
def _dali_errors(name: str) -> Iterator[None]:
    """Turn what DALI raises inside into a typed error, without the source lines that it quotes.

    Raises:
        CorruptVideoError: it did.
    """
    try:
        yield
    except (RuntimeError, ValueError, StopIteration) as error:
        said = re.sub(r"Current pipeline object is no longer valid\.?", "", str(error).rpartition("encountered:")[2])
        raise CorruptVideoError(f"{name} cannot be decoded by DALI ({shorten(said)}); {_OTHERWISE}.") from error
