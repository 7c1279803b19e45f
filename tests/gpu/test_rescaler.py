"""Arrays of a GPU through `Rescaler`: they stay there, on the caller's stream.

On PyTorch in both precisions, and on TensorRT where it is installed and `bdflow build bdflow-x4` was run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt import NV12, Packet, Rescaler, RescalerOptions, ZPolicy, read_packet, write_packet
from bdflow_rt.errors import BackendUnavailableError, DeviceMismatchError, DTypeError, OverlapError, ShapeError
from tests.gpu.support import OnlyInterface, on_gpu, on_host, stall
from tests.support import photo

torch = pytest.importorskip("torch")

SIZES = [(256, 192), (255, 190), (37, 54), (1, 1)]


OPTIONS = [
    RescalerOptions(device="cuda", precision="fp32"),
    RescalerOptions(device="cuda", precision="fp16"),
    RescalerOptions(backend="tensorrt"),
]


@pytest.fixture(scope="module", params=OPTIONS, ids=["torch-fp32", "torch-fp16", "tensorrt"])
def rescaler(request: Any) -> Iterator[Rescaler]:
    try:
        made = Rescaler.from_pretrained("bdflow-x4", request.param)
        made.warm_up()
    except BackendUnavailableError as error:
        pytest.skip(f"needs {request.param.backend}: {error}")
    with made:
        yield made


def close(one: Any, other: Any) -> bool:
    """Equal but for what rounds the other way."""
    difference = np.abs(one.astype(int) - other)
    return bool(difference.max() <= 2 and (difference > 0).mean() < 0.15)


def host(packet: Any) -> Packet:
    assert packet.on_gpu
    on_host: Packet = packet.to_host()
    return on_host


@pytest.mark.parametrize("library", ["cupy", "torch"])
@pytest.mark.parametrize("size", SIZES)
def test_arrays_of_the_gpu_give_what_those_of_the_host_give(
    rescaler: Rescaler, library: str, size: tuple[int, int]
) -> None:
    picture = photo(*size, 3)
    with Rescaler.from_pretrained("bdflow-x4", backend="openvino") as reference:
        packet = rescaler.downscale(on_gpu(picture, library))
        assert type(packet.lr).__module__.partition(".")[0] == library
        assert close(host(packet).lr, reference.downscale(picture).lr)
        restored = rescaler.upscale(packet)
        assert type(restored).__module__.partition(".")[0] == library
        assert restored.shape == (*size, 3)
        assert close(on_host(restored), reference.upscale(host(packet)))


def test_tiles_on_the_gpu_are_the_whole(rescaler: Rescaler) -> None:
    picture = photo(700, 900, 3)
    with Rescaler(rescaler.card, rescaler.options, memory_limit_mib=200) as tight:
        counts: list[int] = []
        packet = tight.downscale(on_gpu(picture), progress=lambda done, count: counts.append(count))
        assert counts[-1] > 1
        assert close(host(packet).lr, host(rescaler.downscale(on_gpu(picture))).lr)
        assert close(on_host(tight.upscale(packet)), on_host(rescaler.upscale(packet)))


def test_no_picture_visits_the_host(rescaler: Rescaler) -> None:
    """By CUPTI: after the graphs are captured, what comes to the host is one mean of each job."""
    picture = on_gpu(photo(256, 192, 1), "torch")
    rescaler.upscale(rescaler.downscale(picture))
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        rescaler.upscale(rescaler.downscale(picture))
        torch.cuda.synchronize()
    copies = [event.name for event in profile.events() if event.name.startswith("Memcpy")]
    assert sum("DtoH" in name for name in copies) <= 2
    assert sum("HtoD" in name for name in copies) == 0


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_work_goes_to_the_callers_stream_and_the_host_does_not_wait(rescaler: Rescaler, library: str) -> None:
    import cupy

    pictures = [photo(256, 192, seed) for seed in range(6)]
    expected = [host(rescaler.downscale(on_gpu(picture))).lr for picture in pictures]
    stream = cupy.cuda.Stream(non_blocking=True) if library == "cupy" else torch.cuda.Stream()
    address = stream.ptr if library == "cupy" else stream.cuda_stream
    arrays = [on_gpu(picture, library) for picture in pictures]
    rescaler.upscale(rescaler.downscale(arrays[0], stream=stream), stream=stream)
    torch.cuda.synchronize()
    stall(address)
    jobs = [rescaler.submit_downscale(array, stream=stream) for array in arrays]
    assert not any(job.done() for job in jobs)
    back = [rescaler.submit_upscale(job.outputs, stream=stream) for job in jobs]
    for job, lr in zip(jobs, expected, strict=True):
        assert close(host(job.wait()).lr, lr)
    assert all(job.wait().shape == (256, 192, 3) for job in back)


def test_streams_may_change_from_call_to_call(rescaler: Rescaler) -> None:
    import cupy

    pictures = [photo(256, 192, seed) for seed in range(8)]
    expected = [host(rescaler.downscale(on_gpu(picture))).lr for picture in pictures]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]
    arrays = [on_gpu(picture) for picture in pictures]
    cupy.cuda.runtime.deviceSynchronize()
    jobs = [rescaler.submit_downscale(array, stream=streams[index % 3]) for index, array in enumerate(arrays)]
    for job, lr in zip(jobs, expected, strict=True):
        assert close(host(job.wait()).lr, lr)


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_results_go_to_the_callers_arrays(rescaler: Rescaler, library: str) -> None:
    picture = photo(255, 190, 3)
    expected = host(rescaler.downscale(on_gpu(picture)))
    out = {
        "lr": on_gpu(np.zeros_like(expected.lr), library),
        "boundary": on_gpu(np.zeros_like(expected.boundary), library),
    }
    packet: Any = rescaler.downscale(on_gpu(picture, library), out=out)
    assert packet.lr is out["lr"]
    assert close(on_host(out["lr"]), expected.lr)
    image = on_gpu(np.zeros_like(picture), library)
    assert rescaler.upscale(packet, out=image) is image
    assert close(on_host(image), rescaler.upscale(expected))


def test_batches_z_grey_and_packets_are_those_of_the_host(rescaler: Rescaler, tmp_path: Path) -> None:
    pictures = [photo(64, 96, seed) for seed in range(5)]
    packets = rescaler.downscale_batch(on_gpu(np.stack(pictures)))
    assert all(close(host(one).lr, rescaler.downscale(other).lr) for one, other in zip(packets, pictures, strict=True))
    assert all(
        close(on_host(one), rescaler.upscale(host(other)))
        for one, other in zip(rescaler.upscale_batch(packets), packets, strict=True)
    )
    sampled = rescaler.downscale(on_gpu(pictures[0]), z=ZPolicy(temperature=0.4, seed=7))
    assert close(on_host(rescaler.upscale(sampled)), rescaler.upscale(host(sampled)))
    write_packet(tmp_path / "small.png", packets[0])
    assert np.array_equal(read_packet(tmp_path / "small.png").lr, host(packets[0]).lr)


@pytest.mark.parametrize("size", [(256, 192), (255, 189)])
@pytest.mark.parametrize("front", [NV12(), NV12("bt601", "full")], ids=str)
def test_nv12_stays_on_the_gpu(rescaler: Rescaler, front: NV12, size: tuple[int, int]) -> None:
    luma, chroma = front.from_rgb(photo(*size, 3))
    packet = rescaler.downscale((on_gpu(luma), on_gpu(chroma)), front=front)
    assert close(host(packet).lr, rescaler.downscale((luma, chroma), front=front).lr)
    for plane, expected in zip(
        rescaler.upscale(packet, front=front), rescaler.upscale(host(packet), front=front), strict=True
    ):
        assert np.abs(on_host(plane).astype(int) - expected).max() <= 2


def test_arrays_with_an_interface_alone_and_of_any_strides_are_taken(rescaler: Rescaler) -> None:
    picture = photo(64, 96, 3)
    expected = host(rescaler.downscale(on_gpu(picture))).lr
    array = on_gpu(picture[::-1])[::-1]
    assert close(host(rescaler.downscale(array)).lr, expected)

    class Shaped(OnlyInterface):
        shape, dtype = picture.shape, picture.dtype

    assert close(host(rescaler.downscale(Shaped(on_gpu(picture)))).lr, expected)


def test_workers_share_the_weights_and_give_the_same(rescaler: Rescaler) -> None:
    pictures = [photo(64, 96, seed) for seed in range(8)]
    with Rescaler(rescaler.card, rescaler.options, workers=3) as several:
        jobs = [several.submit_downscale(picture) for picture in pictures]
        for job, picture in zip(jobs, pictures, strict=True):
            assert close(job.wait().lr, rescaler.downscale(picture).lr)


def test_what_does_not_suit_is_refused(rescaler: Rescaler) -> None:
    picture = on_gpu(photo(64, 96, 3))
    with (
        Rescaler.from_pretrained("bdflow-x4", backend="openvino") as on_cpu,
        pytest.raises(DeviceMismatchError, match="arrays of the host alone"),
    ):
        on_cpu.downscale(picture)
    with pytest.raises(ShapeError):
        rescaler.downscale(picture[..., 0])
    with pytest.raises(DTypeError):
        rescaler.downscale(picture.astype(np.float32))
    with pytest.raises(DTypeError, match="out has lr"):
        rescaler.downscale(picture, out={"lr": on_gpu(np.zeros((16, 24, 3), np.int8))})
    with pytest.raises(OverlapError, match="out has lr"):
        rescaler.downscale(picture, out={"lr": picture[:16, :24]})
    with pytest.raises(DeviceMismatchError):
        rescaler.downscale(picture, out={"lr": np.zeros((16, 24, 3), np.uint8)})
