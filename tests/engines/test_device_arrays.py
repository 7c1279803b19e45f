"""Arrays of a GPU through `Rescaler`, on a stand-in machine whose arrays the host cannot read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt import NV12, Packet, Rescaler, ZPolicy, read_packet, write_packet
from bdflow_rt.errors import (
    ArgumentError,
    ClosedError,
    DeviceMismatchError,
    DTypeError,
    OutsideProfileError,
    OverlapError,
    ShapeError,
)
from bdflow_rt.packet import ColourInfo
from tests.engines.stand import Stand
from tests.engines.standin_gpu import StandInArray
from tests.engines.test_profile_tiles import close
from tests.support import photo, slow_but
from tests.support_models import assert_close_pixels


def on_gpu(array: Any) -> StandInArray:
    return StandInArray(array.copy())


@pytest.fixture
def host_copies(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every copy between host and GPU but the means, of which each job has one."""
    copied: list[int] = []
    for name in ("upload", "download"):
        copy = getattr(stand.device, name)

        def counting(source: Any, target: Any, stream: int, copy: Any = copy) -> None:
            if source.nbytes > 4:
                copied.append(source.nbytes)
            copy(source, target, stream)

        monkeypatch.setattr(stand.device, name, counting)
    return copied


def host(packet: Any) -> Packet:
    assert isinstance(packet.lr, StandInArray)
    assert isinstance(packet.boundary, StandInArray)
    assert packet.header.lr_crc32 is None
    on_host: Packet = packet.to_host()
    return on_host


@pytest.mark.parametrize(
    "size", slow_but([(95, 79), (301, 263)], [(128, 128), (96, 80), (95, 79), (129, 127), (301, 263), (8, 8)])
)
def test_arrays_of_the_gpu_give_what_those_of_the_host_give(rescaler: Rescaler, size: tuple[int, int]) -> None:
    picture = photo(*size, 3)
    with rescaler, Rescaler(rescaler.card, backend="openvino") as reference:
        expected = reference.downscale(picture)
        packet = rescaler.downscale(on_gpu(picture))
        assert close(host(packet).lr, expected.lr)
        assert np.array_equal(host(packet).lr, rescaler.downscale(picture).lr)
        restored = rescaler.upscale(packet)
        assert isinstance(restored, StandInArray)
        assert restored.shape == (*size, 3)
        assert np.array_equal(restored.get(), rescaler.upscale(host(packet)))


@pytest.mark.parametrize("size", [(96, 80), (95, 79), (301, 263)])
def test_no_picture_visits_the_host(rescaler: Rescaler, host_copies: list[int], size: tuple[int, int]) -> None:
    picture = on_gpu(photo(*size, 3))
    with rescaler:
        rescaler.upscale(rescaler.downscale(picture))
        host_copies.clear()
        packet = rescaler.downscale(picture)
        rescaler.upscale(packet)
        job = rescaler.submit_downscale(picture)
        rescaler.submit_upscale(job.outputs).wait()
        rescaler.upscale_batch(rescaler.downscale_batch([picture] * 3)[:1])
        frame = on_gpu(photo(*size, 3)[..., 0]), on_gpu(photo((size[0] + 1) // 2, (size[1] + 1) // 2, 3)[..., :2])
        rescaler.downscale(frame, front=NV12())
        host_copies.clear()
        rescaler.downscale(frame, front=NV12())
    assert host_copies == []


def test_jobs_are_begun_and_the_host_does_not_wait(stand: Stand, rescaler: Rescaler) -> None:
    pictures = [photo(96, 80, seed) for seed in range(5)]
    with rescaler:
        expected = [rescaler.downscale(picture) for picture in pictures]
        stream = stand.device.new_stream()
        rescaler.downscale(on_gpu(pictures[0]), stream=stream)
        jobs = [rescaler.submit_downscale(on_gpu(picture), stream=stream) for picture in pictures]
        assert not any(job.done() for job in jobs)
        back = [rescaler.submit_upscale(job.outputs, stream=stream) for job in jobs]
        stand.device.synchronize(stream)
        assert all(job.done() for job in (*jobs, *back))
        for job, packet in zip(jobs, expected, strict=True):
            assert np.array_equal(host(job.wait()).lr, packet.lr)
        assert np.array_equal(back[4].wait().get(), rescaler.upscale(expected[4]))


def test_batches_of_the_gpu_reach_the_engine_as_batches(stand: Stand, rescaler: Rescaler) -> None:
    pictures = [photo(32, 48, seed) for seed in range(7)]
    with rescaler:
        expected = rescaler.downscale_batch(pictures)
        packets = rescaler.downscale_batch(on_gpu(np.stack(pictures)))
        assert [host(packet).lr.tolist() for packet in packets] == [packet.lr.tolist() for packet in expected]
        images = rescaler.upscale_batch(packets)
        assert all(
            np.array_equal(image.get(), one)
            for image, one in zip(images, rescaler.upscale_batch(expected), strict=True)
        )
        mixed = rescaler.downscale_batch([on_gpu(pictures[0]), pictures[1], on_gpu(pictures[2])])
        assert [packet.on_gpu for packet in mixed] == [True, False, True]


def test_results_go_to_the_callers_arrays(rescaler: Rescaler) -> None:
    picture = photo(95, 79, 3)
    with rescaler:
        expected = rescaler.downscale(picture)
        out = {"lr": on_gpu(np.zeros_like(expected.lr)), "boundary": on_gpu(np.zeros((48, 40), np.uint8))}
        packet: Any = rescaler.downscale(on_gpu(picture), out=out)
        assert packet.lr is out["lr"]
        assert np.array_equal(out["lr"].get(), expected.lr)
        image = on_gpu(np.zeros_like(picture))
        assert rescaler.upscale(packet, out=image) is image
        assert np.array_equal(image.get(), rescaler.upscale(expected))


def test_what_does_not_suit_is_refused(rescaler: Rescaler) -> None:
    picture = on_gpu(photo(96, 80, 3))
    with rescaler, Rescaler(rescaler.card, backend="openvino") as on_cpu:
        packet = rescaler.downscale(picture)
        with pytest.raises(DeviceMismatchError, match="'openvino' takes arrays of the host alone"):
            on_cpu.downscale(picture)
        with pytest.raises(DeviceMismatchError, match="'openvino' takes arrays of the host alone"):
            on_cpu.upscale(packet)
        with pytest.raises(ShapeError, match="on a GPU"):
            rescaler.downscale(on_gpu(photo(96, 80, 3)[..., 0]))
        with pytest.raises(DTypeError, match="float32"):
            rescaler.downscale(on_gpu(photo(96, 80, 3).astype(np.float32)))
        with pytest.raises(ShapeError, match="out has image"):
            rescaler.upscale(packet, out=on_gpu(photo(96, 81, 1)))
        with pytest.raises(DTypeError, match="out has image"):
            rescaler.upscale(packet, out=on_gpu(photo(96, 80, 1).astype(np.int8)))
        with pytest.raises(OverlapError, match="out has lr"):
            rescaler.downscale(picture, out={"lr": picture[:48, :40]})
        with pytest.raises(ArgumentError, match="refine"):
            rescaler.downscale(picture, refine=1)
        with pytest.raises(DeviceMismatchError, match="one side"):
            Packet(packet.lr, packet.to_host().boundary, packet.header)


def test_a_size_that_no_engine_of_the_gpu_takes_never_goes_to_the_host(rescaler: Rescaler) -> None:
    with rescaler, pytest.raises(OutsideProfileError, match="bdflow build"):
        rescaler.downscale(on_gpu(photo(4, 6, 1)))


def test_a_packet_of_the_gpu_is_written_with_its_crc(rescaler: Rescaler, tmp_path: Path) -> None:
    picture = photo(96, 80, 3)
    with rescaler:
        packet = rescaler.downscale(on_gpu(picture))
        write_packet(tmp_path / "small.png", packet)
        read = read_packet(tmp_path / "small.png")
        assert read.header.lr_crc32 == Packet.crc32_of(read.lr)
        assert np.array_equal(rescaler.upscale(read), rescaler.upscale(packet).get())


def test_sampled_z_and_grey_are_those_of_the_host(rescaler: Rescaler, stand: Stand) -> None:
    with rescaler:
        packet = rescaler.downscale(on_gpu(photo(96, 80, 3)), z=ZPolicy(temperature=0.4, seed=7))
        assert np.array_equal(rescaler.upscale(packet).get(), rescaler.upscale(host(packet)))
        header = dataclasses.replace(packet.header, colour=ColourInfo(model="grey"))
        grey = Packet(packet.lr, packet.boundary, header)
        image = rescaler.upscale(grey).get()
        assert np.array_equal(image, rescaler.upscale(grey.to_host()))
        assert np.array_equal(image[..., 0], image[..., 2])
        _, chroma = rescaler.upscale(grey, front=NV12())
        assert np.array_equal(chroma.get(), np.full((48, 40, 2), 128))


def test_workers_take_frames_of_the_gpu_in_turns(stand: Stand, rescaler: Rescaler) -> None:
    pictures = [photo(96, 80, seed) for seed in range(8)]
    with rescaler, Rescaler(rescaler.card, backend="tensorrt", workers=3) as several:
        expected = [rescaler.downscale(picture).lr for picture in pictures]
        streams = [stand.device.new_stream() for _ in range(2)]
        jobs = [
            several.submit_downscale(on_gpu(picture), stream=streams[index % 2])
            for index, picture in enumerate(pictures)
        ]
        for job, lr in zip(jobs, expected, strict=True):
            assert np.array_equal(host(job.wait()).lr, lr)


def test_a_job_keeps_its_result_when_the_rescaler_is_closed(rescaler: Rescaler) -> None:
    picture = photo(96, 80, 3)
    with rescaler:
        expected = rescaler.downscale(picture)
        job = rescaler.submit_downscale(on_gpu(picture))
    assert np.array_equal(host(job.wait()).lr, expected.lr)
    with pytest.raises(ClosedError):
        rescaler.submit_downscale(on_gpu(picture))


@pytest.mark.parametrize("size", slow_but([(95, 79)], [(96, 80), (95, 79), (301, 263)]))
@pytest.mark.parametrize("colour", [NV12(), NV12("bt601", "full")])
def test_nv12_on_the_gpu_gives_what_it_gives_on_the_host(
    rescaler: Rescaler, size: tuple[int, int], colour: NV12
) -> None:
    luma, chroma = colour.from_rgb(photo(*size, 3))
    with rescaler:
        expected = rescaler.downscale((luma, chroma), front=colour)
        packet = rescaler.downscale((on_gpu(luma), on_gpu(chroma)), front=colour)
        assert packet.header.colour == expected.header.colour
        assert_close_pixels(host(packet).lr, expected.lr)  # what lies between two levels may round the other way
        planes = rescaler.upscale(packet, front=colour)
        assert [plane.shape for plane in planes] == [luma.shape, chroma.shape]
        for plane, other in zip(planes, rescaler.upscale(packet.to_host(), front=colour), strict=True):
            assert_close_pixels(plane.get(), other, share=0.01)
        out = on_gpu(np.zeros_like(luma)), on_gpu(np.zeros_like(chroma))
        again = rescaler.upscale(packet, front=colour, out=out)
        assert again[0] is out[0]
        assert np.array_equal(again[1].get(), planes[1].get())
