"""Video files, down and up; PyAV and others decode and encode."""

from bdflow_rt.video.codecs import Encoding
from bdflow_rt.video.rescale import downscale_video, rescaler_for, upscale_video
from bdflow_rt.video.result import VideoResult

__all__ = ["Encoding", "VideoResult", "downscale_video", "rescaler_for", "upscale_video"]
