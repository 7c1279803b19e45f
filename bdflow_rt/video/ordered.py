"""Frames through a rescaler in order, with several on their way at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from bdflow_rt.errors import BdflowError
from bdflow_rt.packet import Packet, PacketHeader, StreamHeader
from bdflow_rt.video.lr_file import LrFrame

T = TypeVar("T")
IN_FLIGHT = 2
"""Frames per worker that are read ahead of what is written."""


def in_order(
    items: Iterable[Any], kind: type[T], begin: Callable[[T], Any], *, ahead: int
) -> Iterator[tuple[Any, Any]]:
    """Each item with the job that `begin` starts for it, if it is a frame; jobs start `ahead` of what is given."""
    waiting: deque[tuple[Any, Any]] = deque()
    running = 0
    failure: BdflowError | None = None
    source = iter(items)
    while True:
        try:
            item = next(source)
        except StopIteration:
            break
        except BdflowError as error:  # what was begun before it is good
            failure = error
            break
        job = begin(item) if isinstance(item, kind) else None
        waiting.append((item, job))
        running += job is not None
        while running > ahead or (waiting and waiting[0][1] is None):
            first = waiting.popleft()
            running -= first[1] is not None
            yield first
    yield from waiting
    if failure is not None:
        raise failure


def packet_of(frame: LrFrame, header: StreamHeader) -> Packet:
    """A frame as the packet of a picture."""
    common = {name: getattr(header, name) for name in ("model", "identity", "scale", "width", "height", "bits", "z")}
    return Packet(frame.lr, frame.boundary, PacketHeader(**common, colour=header.colour, lr_crc32=frame.data.lr_crc32))
