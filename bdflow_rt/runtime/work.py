"""What `Rescaler` asks of its runner for pictures of one size: packets of sources, and pictures of packets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bdflow_rt.engines.engine import Job
from bdflow_rt.engines.front import NV12, RGB, Front, RGBFront
from bdflow_rt.errors import ArgumentError, check_type, describe
from bdflow_rt.options import Progress, check_work
from bdflow_rt.packet import Packet, ZPolicy
from bdflow_rt.runtime.pool import JointJob
from bdflow_rt.runtime.runner import Runner
from bdflow_rt.runtime.source import Source
from bdflow_rt.zoo import Direction, ModelCard

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Work:
    """How pictures are made; see `Rescaler.downscale` and `Rescaler.upscale`.

    Raises:
        ArgumentError: one of them is not allowed.
    """

    z: ZPolicy | None = None
    force: bool = False
    refine: int = 0
    progress: Progress | None = None
    front: Front = RGB
    out: Mapping[str, Any] | None = None
    stream: Any = None

    def __post_init__(self) -> None:
        if self.z is not None and not isinstance(self.z, ZPolicy):
            raise ArgumentError(
                f"z is {describe(self.z)}; it must be a ZPolicy, such as ZPolicy(temperature=0.45, seed=1)."
            )
        check_type("front", self.front, (RGBFront, NV12), "RGB or NV12(matrix, levels)")
        check_work(refine=self.refine, force=self.force, progress=self.progress)
        if self.out is not None and not isinstance(self.out, Mapping):
            raise ArgumentError(f"out is {describe(self.out)}; it must be the arrays by name: 'lr' and 'boundary'.")

    def downscale(self, runner: Runner, card: ModelCard, sources: Sequence[Source]) -> Job[list[Packet]]:
        """Packets of pictures of one size, all on one side."""
        first, z = sources[0], self.z or ZPolicy()
        if self.refine and (first.on_gpu or first.front != RGB):
            raise ArgumentError("refine is for RGB pictures in the host's memory. Leave it out, or give one of those.")
        job = runner.downscale(
            [source.frame for source in sources],
            z=z,
            grey=[source.colour.model == "grey" for source in sources],
            refine=self.refine,
            progress=self.progress,
            out=self.out,
            stream=self.stream,
            front=first.front,
        )
        packets = [source.packet(made, card, z) for source, made in zip(sources, job.outputs, strict=True)]
        return JointJob(packets, [job])

    def upscale(self, runner: Runner, packets: Sequence[Packet]) -> Job[list[Any]]:
        """The HR pictures of packets of one size, all on one side; what they are is the front's."""
        headers = [packet.header for packet in packets]
        job = runner.upscale(
            [
                {"lr": packet.lr, **({} if packet.boundary is None else {"boundary": packet.boundary})}
                for packet in packets
            ],
            size=(headers[0].height, headers[0].width),
            z=[self.z or header.z for header in headers],
            grey=[header.colour.model == "grey" for header in headers],
            progress=self.progress,
            out=self.out,
            stream=self.stream,
            front=self.front,
        )
        pictures = [tuple(made.values()) for made in job.outputs]
        return JointJob([arrays[0] if len(arrays) == 1 else arrays for arrays in pictures], [job])


def groups(
    runner: Runner, direction: Direction, scale: int, items: Iterable[T], key: Callable[[T], tuple[Any, ...]]
) -> Iterator[list[T]]:
    """Neighbours of one size, (height, width, ...) by `key`, as many as go through the engine at once."""
    for (height, width, *_), alike in itertools.groupby(items, key):
        most = runner.batch_size(direction, (-(-height // scale), -(-width // scale)))
        while group := list(itertools.islice(alike, most)):
            yield group
