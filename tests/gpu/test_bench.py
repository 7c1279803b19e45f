"""The benchmark is fair: what it compares with computes the same; and it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt import kernels
from tests.gpu.support import frames, noise, on_gpu, on_host


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_haar_rivals_compute_the_same(direction: str) -> None:
    pytest.importorskip("torch")
    from bdflow_rt.bench import gpu_rivals

    x = noise(2, 3 if direction == "forward" else 12, 34, 46, dtype=np.float32)
    wanted = getattr(kernels, f"haar_{direction}")(x)
    for name, call in getattr(gpu_rivals, f"haar_{direction}_rivals")(on_gpu(x)).items():
        if not name.endswith("compiled"):
            np.testing.assert_allclose(on_host(call()), wanted, atol=3e-3, err_msg=name)  # cuDNN may use tf32


def test_mask_rivals_find_the_same_edges_and_their_flanks() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("cupyx.scipy.ndimage")
    from bdflow_rt.bench import gpu_rivals

    images = frames(2, 120, 160)
    mask = np.stack([kernels.boundary_mask(image) for image in images]).astype(bool)
    for name, call in gpu_rivals.mask_rivals(on_gpu(images), threshold=50).items():
        if not name.endswith("compiled"):
            found = on_host(call())
            assert found.shape == mask.shape
            assert found[mask].mean() > 0.97, name
            assert mask.mean() < found.mean() < 6 * mask.mean(), name


def _run(module: str, folder: Path, *options: str) -> dict[str, Any]:
    """The JSON that a benchmark writes at its quickest."""
    pytest.importorskip("torch")
    path = folder / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", f"bdflow_rt.bench.{module}", "--quick", *options, "--output", str(path)],
        cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_the_benchmark_runs_and_everything_is_exact(tmp_path: Path) -> None:
    (size,) = _run("kernels", tmp_path)["sizes"].values()
    assert [row["kernel"] for row in size["kernels"] if row["wrong_values"]] == []
    assert all(row["median_us"] > 0 for row in size["kernels"])


def test_the_profile_names_the_kernels_of_both_directions(tmp_path: Path) -> None:
    for one in _run("gpu_profile", tmp_path)["directions"].values():
        assert one["total_us"] >= sum(kernel["us"] for kernel in one["kernels"]) > 0
        assert any("gemm" in kernel["name"] or "conv" in kernel["name"] for kernel in one["kernels"])


def test_the_latency_benchmark_times_every_way(tmp_path: Path) -> None:
    """But torch.compile, which takes minutes."""
    rows = _run("gpu_latency", tmp_path, "--compiled")["rows"]
    runs = {(row["batch"], row["direction"]) for row in rows}
    assert runs == {(batch, direction) for batch in (1, 8) for direction in ("downscale", "upscale")}
    assert [row for row in rows if "failed" in row] == []
