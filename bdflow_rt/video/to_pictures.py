"""LR videos restored as numbered pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bdflow_rt.errors import CorruptVideoError
from bdflow_rt.files import PathLike
from bdflow_rt.packet import ZPolicy
from bdflow_rt.video.frames import Frame
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.video.ordered import IN_FLIGHT, in_order, packet_of
from bdflow_rt.video.pictures import PictureSink
from bdflow_rt.video.result import LR_DECODER_REASON, Progress, VideoResult

if TYPE_CHECKING:
    from bdflow_rt.rescaler import Rescaler


def upscale_to_pictures(
    frames: LrSource,
    target: PathLike,
    rescaler: Rescaler,
    *,
    z: ZPolicy | None,
    overwrite: bool,
    progress: Progress | None,
) -> VideoResult:
    """Restore an LR video as numbered pictures; its timestamps are not kept.

    Args:
        frames: the LR video.
        target: a pattern such as frame_%05d.png.
        rescaler, z, overwrite, progress: as for `upscale_video`.

    Raises:
        PacketError: of another model, damaged, or its LR pictures were changed.
        ArgumentError, OutputError: as `PictureSink`.
        CorruptVideoError: no frame can be restored.
    """
    header, problems = frames.header, frames.problems
    frames.check_model(rescaler.card)
    sink = PictureSink(target, frames.info, problems, overwrite=overwrite)

    def begin(frame: LrFrame) -> Any:
        return rescaler.submit_upscale(packet_of(frame, header), z=header.z if z is None else z, force=True)

    for item, job in in_order(iter(frames), LrFrame, begin, ahead=IN_FLIGHT * rescaler.options.workers):
        if job is None:
            sink.copy(item)
            continue
        sink.write(Frame(job.wait(), item.data.pts, item.data.duration))
        if progress is not None:
            progress(sink.frames, None)
    if not sink.frames:
        raise CorruptVideoError("No frame of the LR video can be restored.")
    output_bytes = sink.close()
    height, width = header.lr_size
    return VideoResult(
        sink.frames, 0, problems.damaged, problems.retimed, tuple(problems.notices), (header.width, header.height),
        (width, height), output_bytes, "pyav", LR_DECODER_REASON,
    )  # fmt: skip
