"""The half-precision CUDA graphs of the torch backend against its float32 reference."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bdflow_rt.errors import NonFiniteOutputError
from tests.support import photo

torch = pytest.importorskip("torch")

SHAPES = [(64, 96), (120, 68), (64, 96), (512, 512)]


@pytest.fixture(params=["downscale", "upscale"])
def pair(request: Any) -> Any:
    """The reference and the graphs of one direction of the shipped x4."""
    from bdflow_rt.engines.torch.engine import TorchEngine
    from bdflow_rt.zoo import find_model

    card = find_model("bdflow-x4@1")
    down = TorchEngine(card, "downscale", device="cuda")
    engines = [
        TorchEngine(card, request.param, device="cuda"),
        TorchEngine(card, request.param, device="cuda", precision="fp16"),
    ]
    yield (down, *engines)
    for engine in (down, *engines):
        engine.close()


def test_graphs_give_the_references_pixels_for_changing_shapes_and_pictures(pair: Any) -> None:
    down, reference, half = pair
    for seed, (height, width) in enumerate(SHAPES):
        inputs: dict[str, Any] = {"image": np.stack([photo(height, width, seed), photo(height, width, seed + 9)])}
        if half.direction == "upscale":
            inputs = down.run(inputs)
        expected, found = reference.run(inputs), half.run(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            difference = np.abs(found[name].astype(int) - value)
            assert difference.max() <= (2 if name == "image" else 1), name
            assert (difference > 0).mean() < 0.15, name


def test_without_kernels_the_graphs_give_the_same(pair: Any) -> None:
    from bdflow_rt.engines.torch.graph import GraphedWire
    from bdflow_rt.models.io import load_model
    from bdflow_rt.zoo import find_model

    _, _, half = pair
    model = load_model(find_model("bdflow-x4@1")).cuda()
    shape = (1, 96, 64, 3) if half.direction == "downscale" else (1, 24, 16, 3)
    inputs = {"image" if half.direction == "downscale" else "lr": torch.randint(0, 256, shape, dtype=torch.uint8)}
    if half.direction == "upscale":
        inputs["boundary"] = torch.randint(0, 2, shape[:3], dtype=torch.uint8)
    ways = [GraphedWire(model, half.direction, use_kernels=use).run(inputs) for use in (True, False)]
    for name, value in ways[0].items():
        if name != "mean":
            assert (value.int() - ways[1][name].int()).abs().max() <= 1, name


def _open(direction: str = "downscale") -> Any:
    from bdflow_rt.engines.torch.engine import TorchEngine
    from bdflow_rt.zoo import find_model

    return TorchEngine(find_model("bdflow-x4@1"), direction, device="cuda", precision="fp16")  # type: ignore[arg-type]


def _ramp() -> Any:
    """(1, 256, 64, 3) uint8: upside down, it is its own negative."""
    return np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None, None], (1, 256, 64, 3))


@pytest.mark.parametrize("value", [0, 128, 255, "ramp"])
def test_a_first_picture_that_says_little_is_no_fault_of_the_graph(value: Any) -> None:
    image = _ramp() if value == "ramp" else np.full((1, 64, 64, 3), value, np.uint8)
    found = _open().run({"image": image})
    blocks = image.astype(float).reshape(1, image.shape[1] // 4, 4, image.shape[2] // 4, 4, 3).mean((2, 4))
    assert np.abs(found["lr"] - blocks).mean() < 8


def test_shapes_that_share_memory_do_not_disturb_each_other() -> None:
    engine = _open()
    images = {size: photo(*size, seed=size[0])[None] for size in ((64, 64), (256, 192), (128, 68), (512, 512))}
    first = {size: engine.run({"image": image}) for size, image in images.items()}
    for size in (*images, *reversed(images)):
        again = engine.run({"image": images[size]})
        assert all(np.array_equal(again[name], value) for name, value in first[size].items()), size
    engine.release()
    anew = engine.run({"image": images[64, 64]})["lr"]
    assert np.abs(anew.astype(int) - first[64, 64]["lr"]).max() <= 1


def test_a_first_picture_that_overflows_is_named_as_that() -> None:
    engine = _open()
    with torch.no_grad():
        for parameter in engine._wire.network.parameters():
            parameter.fill_(float("inf"))
    with pytest.raises(NonFiniteOutputError):
        engine.run({"image": photo(64, 64, seed=0)[None]})


def test_threads_capture_while_others_run_and_allocate() -> None:
    sizes = [(64 + 4 * step, 64) for step in range(6)]

    def work(seed: int) -> list[Any]:
        engine = _open()
        return [engine.run({"image": photo(*size, seed=seed)[None]})["lr"] for size in (*sizes, *sizes)]

    alone = [work(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(work, range(3)))
    for one, other in zip(alone, together, strict=True):
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(one, other, strict=True))


def test_the_second_gpu_works_while_the_first_is_current() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    from bdflow_rt.engines.torch.engine import TorchEngine
    from bdflow_rt.zoo import find_model

    image = photo(64, 96, seed=1)[None]
    expected = _open().run({"image": image})["lr"]
    engine = TorchEngine(find_model("bdflow-x4@1"), "downscale", device="cuda:1", precision="fp16")
    found = engine.run({"image": image})["lr"]
    assert torch.cuda.current_device() == 0
    assert np.abs(found.astype(int) - expected).max() <= 1
