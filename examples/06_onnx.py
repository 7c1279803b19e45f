"""A model's graphs in plain ONNX Runtime: how another program, in any language, runs both directions.

    python examples/06_onnx.py [your.jpg]

Needs `pip install onnxruntime`. Of BDFlow RT it takes the two graphs and a sample picture; at the end it compares.
"""

import os
import sys
from typing import Any

import numpy as np

from bdflow_rt import Rescaler
from bdflow_rt.containers import read_picture
from bdflow_rt.picture import UInt8Array, sample_picture
from bdflow_rt.zoo import find_model

SCALE = 4


def load(path: str) -> Any:
    """An inference session on the CPU."""
    # ONNX Runtime 1.32 contacts Microsoft when it is imported, unless these are set before.
    os.environ.update(ORT_DISABLE_TELEMETRY="1", ORT_TELEMETRY_DISABLED="1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Weights stored in int8 become floating-point once, when the graph is loaded, and not in every run.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def main() -> None:
    """Down and up with ONNX Runtime alone, then each direction again with Rescaler."""
    image = read_picture(sys.argv[1]).pixels if len(sys.argv) > 1 else sample_picture(123, 222)
    folder = find_model("bdflow-x4").folder
    down, up = (load(str(folder / f"{direction}.onnx")) for direction in ("downscale", "upscale"))
    for session in (down, up):
        print("inputs    " + ", ".join(f"{node.name} {node.type} {node.shape}" for node in session.get_inputs()))

    # Sides must be multiples of the scale: repeat the last row and column, and cut them off at the end.
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % SCALE), (0, -width % SCALE), (0, 0)), mode="edge")
    lr, boundary = down.run(["lr", "boundary"], {"image": padded[None]})  # (1, h, w, 3) and (1, h, w) uint8
    print(f"padded    {image.shape} -> {padded.shape} -> {lr.shape[1:]}, boundary {boundary.shape[1:]}")

    with Rescaler.from_pretrained("bdflow-x4") as rescaler:
        packet = rescaler.downscale(image)
        expected = rescaler.upscale(packet)
    (restored,) = up.run(["image"], {"lr": packet.lr[None], "boundary": np.asarray(packet.boundary)[None]})
    print(f"LR        at most {difference(lr[0], packet.lr)} levels from Rescaler's")
    print(f"restored  at most {difference(restored[0, :height, :width], expected)} levels from Rescaler's")


def difference(one: UInt8Array, other: UInt8Array) -> int:
    """The largest difference of two pictures, in levels of 0 to 255."""
    return int(np.abs(np.int16(one) - np.int16(other)).max())


if __name__ == "__main__":
    main()
