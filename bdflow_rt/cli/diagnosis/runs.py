"""Whether the CPU backends really run the default model: both directions, on a tiny picture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bdflow_rt.cli.diagnosis.probe import ask_python, guarded

BACKENDS = ("openvino", "torch")

_RUN = """
import time
import numpy as np
from bdflow_rt.engines.select import is_installed
from bdflow_rt.errors import BdflowError, ModelError
from bdflow_rt.rescaler import Rescaler
if not is_installed({backend!r}):
    answer({{"installed": False, "model": None, "seconds": None, "problem": None, "of_the_model": False}})
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
}})
"""


def runs() -> dict[str, Any]:
    """Backend -> `installed`, the `model`, `seconds` with loading, the `problem` and whether it is `of_the_model`."""
    with ThreadPoolExecutor(max_workers=len(BACKENDS)) as pool:
        answers = pool.map(lambda name: guarded(lambda: ask_python(_RUN.format(backend=name))), BACKENDS)
        return dict(zip(BACKENDS, answers, strict=True))
