"""BDFlow RT: invertible image rescaling in real time. The public API, nothing else.

    from bdflow_rt import Rescaler

    with Rescaler.from_pretrained("bdflow-x4") as rescaler:
        packet = rescaler.downscale("photo.jpg")
        restored = rescaler.upscale(packet)

Names are loaded when they are first used, so the import itself costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

from bdflow_rt import errors
from bdflow_rt._version import __version__

if TYPE_CHECKING:
    from bdflow_rt.containers import decode_png, encode_png, read_packet, write_packet
    from bdflow_rt.engines.front import NV12
    from bdflow_rt.options import RescalerOptions
    from bdflow_rt.packet import Packet, ZPolicy
    from bdflow_rt.picture import Picture
    from bdflow_rt.rescaler import Rescaler
    from bdflow_rt.zoo import list_models

__all__ = [
    "NV12",
    "Packet",
    "Picture",
    "Rescaler",
    "RescalerOptions",
    "ZPolicy",
    "__version__",
    "decode_png",
    "encode_png",
    "errors",
    "list_models",
    "read_packet",
    "write_packet",
]


def __getattr__(name: str) -> Any:
    import importlib

    homes = {
        "containers": ("decode_png", "encode_png", "read_packet", "write_packet"),
        "engines.front": ("NV12",),
        "options": ("RescalerOptions",),
        "packet": ("Packet", "ZPolicy"),
        "picture": ("Picture",),
        "rescaler": ("Rescaler",),
        "zoo": ("list_models",),
    }
    for home, names in homes.items():
        if name in names:
            return getattr(importlib.import_module(f"bdflow_rt.{home}"), name)
    raise AttributeError(f"module 'bdflow_rt' has no attribute {name!r}")
