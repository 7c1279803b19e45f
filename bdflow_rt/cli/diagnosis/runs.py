"""Whether the CPU backends really run the default model: both directions, on a tiny picture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bdflow_rt.cli.diagnosis.probe import ask_python, guarded

CPU_BACKENDS = ("openvino", "torch")

_RUN = """
import sys
import time
import numpy as np
from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.errors import BdflowError, ModelError
from bdflow_rt.rescaler import Rescaler
if not BACKENDS[{backend!r}].is_installed:
    answer(dict.fromkeys(("model", "seconds", "problem", "telemetry")) | {{"installed": False, "of_the_model": False}})
    raise SystemExit
model, problem, of_the_model, start = None, None, False, time.perf_counter()
try:
    with Rescaler.from_pretrained(backend={backend!r}) as rescaler:
        model = rescaler.card.id
        image = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
        restored = rescaler.upscale(rescaler.downscale(image))
    if restored.shape != image.shape:
        problem = f"it gave a picture of shape {{restored.shape}} for one of {{image.shape}}"
except BdflowError as error:
    problem, of_the_model = str(error), isinstance(error, ModelError)
answer({{
    "installed": True,
    "model": model,
    "seconds": round(time.perf_counter() - start, 3),
    "problem": problem,
    "of_the_model": of_the_model,
    # OpenVINO's own is the one that any of our backends has.
    "telemetry": "ON: openvino_telemetry was loaded" if "openvino_telemetry" in sys.modules else "off",
}})
"""


def runs() -> dict[str, Any]:
    """Backend -> `installed`, the `model`, `seconds` with loading, the `problem`, whether it is `of_the_model`, and
    whether its `telemetry` is off."""
    with ThreadPoolExecutor(max_workers=len(CPU_BACKENDS)) as pool:
        answers = pool.map(lambda name: guarded(lambda: ask_python(_RUN.format(backend=name))), CPU_BACKENDS)
        return dict(zip(CPU_BACKENDS, answers, strict=True))
