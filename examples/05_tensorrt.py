"""TensorRT-RTX engines built ahead of time, with the proof that they compute in float16.

    python examples/05_tensorrt.py

Needs the extras [tensorrt-rtx] and [export], and no GPU. The engines go into the cache, where the backend
"tensorrt-rtx" finds them on a machine with an RTX GPU; nothing is loaded here.
"""

from importlib.util import find_spec

from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.errors import BackendUnavailableError
from bdflow_rt.zoo import Direction, find_model

MODEL = "bdflow-x4-fast"
INSTALL = "pip install -e '.[tensorrt-rtx,export]'"


def main() -> None:
    """Build both directions, where that can be done."""
    if find_spec("onnx") is None:
        print(f"Building engines needs the package onnx: {INSTALL}")
        return
    try:
        for direction in ("downscale", "upscale"):
            build_engine(direction)
    except BackendUnavailableError as error:
        print(f"No engine can be built here: {error}\nFrom a checkout: {INSTALL}")
        return
    print(f"On a machine with an RTX GPU: Rescaler.from_pretrained({MODEL!r}, backend='tensorrt-rtx')")


def build_engine(direction: Direction) -> None:
    """Build one engine for pictures from 64 x 64 to 640 x 360, and keep it in the cache."""
    from bdflow_rt.export.profiles import parse_profile
    from bdflow_rt.export.tensorrt import EngineBuild

    profile = parse_profile("64x64:360p:360p")
    build = EngineBuild.prepare(find_model(MODEL), direction, flavour="tensorrt-rtx", profile=profile)
    built = build.run()  # raises PrecisionError where a learned convolution would not be float16
    kept = EngineCache().get_or_build(build.key, lambda: built.plan)
    proof = built.info["precision"]
    print(f"{direction:9} {built.info['seconds']:.1f} s, {len(built.plan):,} bytes, {kept.path}")
    print(f"{'':9} {proof['learned_convolutions']} convolutions float16, {proof['island_layers']} layers float32")


if __name__ == "__main__":
    main()
