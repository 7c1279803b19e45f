"""Videos and streams of frames, down and up; PyAV and others decode and encode."""

from bdflow_rt.video.codecs import Encoding
from bdflow_rt.video.frames import Frame
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.video.meter import StreamStats
from bdflow_rt.video.rescale import downscale_video, upscale_video
from bdflow_rt.video.rescaler import VideoRescaler, video_options
from bdflow_rt.video.result import VideoResult
from bdflow_rt.video.stream import StreamOptions

__all__ = [
    "Encoding",
    "Frame",
    "LrFrame",
    "LrSource",
    "StreamOptions",
    "StreamStats",
    "VideoRescaler",
    "VideoResult",
    "downscale_video",
    "upscale_video",
    "video_options",
]
