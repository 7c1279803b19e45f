"""Arrays of a GPU with a stream of yours: frames never visit the host, and the host does not wait.

    python examples/03_device_arrays.py

On a GPU it needs PyTorch with CUDA and the extra [cuda]; CuPy's arrays work alike. On a machine without a GPU the same
code runs with PyTorch's tensors of the CPU, or NumPy's arrays where PyTorch is missing; results are then NumPy's.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np

from bdflow_rt import Rescaler
from bdflow_rt.metrics import psnr
from bdflow_rt.picture import sample_picture


def place() -> tuple[Any, str, Any]:
    """A function that takes an array to where it is to be computed, the device's name, and a stream there."""
    try:
        import torch
    except ImportError:
        print("No PyTorch here: NumPy arrays, computed on the CPU.")
        return np.asarray, "cpu", None
    if torch.cuda.is_available():
        print(f"PyTorch tensors of {torch.cuda.get_device_name()}, on a stream of their own.")
        return lambda array: torch.from_numpy(array).cuda(), "cuda", torch.cuda.Stream()
    print("No GPU here: PyTorch tensors of the CPU, without a stream.")
    return torch.from_numpy, "cpu", None


def main() -> None:
    """Both directions with `submit_`, one behind the other on one stream."""
    to_device, device, stream = place()
    hr = sample_picture(240, 320)

    with Rescaler.from_pretrained("bdflow-x4-fast", device=device) as rescaler:
        if stream is not None:
            import torch
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            frame = to_device(hr)  # the copy is on the stream, so the work below waits for it
            down = rescaler.submit_downscale(frame, stream=stream)
            packet = down.outputs if stream is not None else down.wait()  # on a GPU: usable on this stream right now
            up = rescaler.submit_upscale(packet, stream=stream)
        down.wait()  # raises what went wrong, such as NonFiniteOutputError
        restored = up.wait()
        print(f"backend   {rescaler.backend} on {device}")

    back = restored.cpu().numpy() if stream is not None else np.asarray(restored)
    print(f"frame     {type(frame).__module__}.{type(frame).__name__} {tuple(frame.shape)}")
    print(f"restored  {type(restored).__module__}.{type(restored).__name__} {tuple(restored.shape)}")
    print(f"PSNR      {psnr(back, hr):.2f} dB")


if __name__ == "__main__":
    main()
