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
    from bdflow_rt.packet import Packet, ZPolicy
    from bdflow_rt.rescaler import Rescaler
    from bdflow_rt.zoo import list_models

__all__ = ["Packet", "Rescaler", "ZPolicy", "__version__", "errors", "list_models"]


def __getattr__(name: str) -> Any:
    import importlib

    homes = {"Packet": "packet", "ZPolicy": "packet", "Rescaler": "rescaler", "list_models": "zoo"}
    if name not in homes:
        raise AttributeError(f"module 'bdflow_rt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bdflow_rt.{homes[name]}"), name)
