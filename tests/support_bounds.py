"""What shows that an extra works: run by the Python of an environment with nothing but that extra.

    python support_bounds.py EXTRA FOLDER

FOLDER holds photo.png and is written to. Nothing here imports what only tests have.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

TRAINING = """
crop = 16
batch = 2
iterations = 3
warmup = 1
workers = 0
checkpoint_every = 2
validate_every = 100
log_every = 1
learning_rate = 1e-3
[model]
scale = 2
blocks = [1]
hidden = [8]
[loss]
lr = 2
reconstruction = 1
lpips = 0
boundary = 0
latent = 0
"""


def bdflow(folder: pathlib.Path, *arguments: str) -> None:
    """One command line, in the folder."""
    subprocess.run([sys.executable, "-m", "bdflow_rt", *arguments], cwd=folder, check=True)


def check_core(folder: pathlib.Path) -> None:
    """Both directions of the default model."""
    bdflow(folder, "downscale", "photo.png", "-o", "small.png")
    bdflow(folder, "upscale", "small.png", "-o", "restored.png")
    bdflow(folder, "completion", "bash")


def check_video(folder: pathlib.Path) -> None:
    """A clip, both ways, through x264 and FFV1."""
    import av
    import numpy as np

    with av.open(str(folder / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(5):
            picture = np.full((48, 64, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    bdflow(folder, "downscale", "clip.mkv", "-o", "small.mkv", "-m", "bdflow-x2-fast")
    for name, options in (("restored.mp4", []), ("restored.mkv", ["--codec", "ffv1"])):
        bdflow(folder, "upscale", "small.mkv", "-o", name, *options)
        with av.open(str(folder / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 5


def check_demo(folder: pathlib.Path) -> None:
    """The demonstration on scikit-image's photograph."""
    subprocess.run([sys.executable, "-m", "bdflow_rt.bench.demo"], cwd=folder, check=True)


def check_train(folder: pathlib.Path) -> None:
    """A few steps, with the curve drawn."""
    (folder / "small.toml").write_text(TRAINING)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "photo.png").write_bytes((folder / "photo.png").read_bytes())
    bdflow(folder, "train", "small.toml", "--data", "pictures", "--output", "run", "--device", "cpu", "--threads", "1")
    for name in ("model/weights.safetensors", "curves.png"):
        if not (folder / "run" / name).is_file():
            raise SystemExit(f"run/{name} was not written")


def check_export(folder: pathlib.Path) -> None:
    """The default model's graphs written anew give the pixels of those that ship."""
    bdflow(folder, "export", "bdflow-x4", "-o", "exported")
    bdflow(folder, "downscale", "photo.png", "-o", "small.png", "--model", "exported")
    bdflow(folder, "upscale", "small.png", "-o", "restored.png")
    bdflow(folder, "completion", "bash")


def check_bench(folder: pathlib.Path) -> None:
    """Every module imports; ONNX Runtime runs the default model's graph to the LR of OpenVINO."""
    import importlib
    import pkgutil

    import numpy as np

    import bdflow_rt.bench
    from bdflow_rt import Rescaler
    from bdflow_rt.quiet import import_quietly
    from bdflow_rt.zoo import find_model

    onnxruntime = import_quietly("onnxruntime")

    for module in pkgutil.iter_modules(bdflow_rt.bench.__path__):
        importlib.import_module(f"bdflow_rt.bench.{module.name}")
    card = find_model("bdflow-x4")
    card.check_weights()
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(card.check_graph("downscale")))
    (found,) = session.run(["lr"], {"image": image[None]})
    with Rescaler(card) as rescaler:
        expected = rescaler.downscale(image).lr
    if np.abs(found[0].astype(int) - expected).max() > 1:
        raise SystemExit("ONNX Runtime gives another LR picture")


def check_cuda(folder: pathlib.Path) -> None:
    """NVRTC compiles kernels; no GPU is needed for that."""
    from bdflow_rt.kernels.boundary_launch import KERNELS as MASKS
    from bdflow_rt.kernels.compile import compile_kernel
    from bdflow_rt.kernels.haar import KERNELS

    for kernel in (KERNELS[0], MASKS[0]):
        for architecture in (75, 120):
            if len(compile_kernel(kernel, architecture).cubin) < 1000:
                raise SystemExit(f"{kernel.expression} is empty for {architecture}")


def check_tensorrt_rtx(folder: pathlib.Path) -> None:
    """The library loads and is new enough. Building an engine needs the training extra for half precision too."""
    from bdflow_rt.engines.tensorrt.library import load_library

    load_library("tensorrt-rtx")


def check_dali(folder: pathlib.Path) -> None:
    """A picture is decoded on the CPU to its very pixels."""
    import importlib

    import numpy as np
    from PIL import Image

    dali = importlib.import_module("nvidia.dali")
    fn = importlib.import_module("nvidia.dali.fn")
    pipeline = dali.Pipeline(batch_size=1, num_threads=1, device_id=None)
    with pipeline:
        encoded, _ = fn.readers.file(files=[str(folder / "photo.png")])
        pipeline.set_outputs(fn.decoders.image(encoded, device="cpu"))
    pipeline.build()
    (decoded,) = pipeline.run()
    if not np.array_equal(decoded.at(0), np.asarray(Image.open(folder / "photo.png"))):
        raise SystemExit("DALI decodes to other pixels")


CHECKS = {
    "core": check_core,
    "demo": check_demo,
    "video": check_video,
    "train": check_train,
    "export": check_export,
    "bench": check_bench,
    "cuda": check_cuda,
    "tensorrt-rtx": check_tensorrt_rtx,
    "dali": check_dali,
}

if __name__ == "__main__":
    CHECKS[sys.argv[1]](pathlib.Path(sys.argv[2]))
