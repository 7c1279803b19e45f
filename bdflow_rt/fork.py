"""What a forked process may do with what its parent left.

A fork copies the memory of a process and only one of its threads. OpenVINO, PyTorch and CUDA compute with threads of
their own, and in the child they wait for those for ever; so does whoever takes a lock that another thread held.
"""

from __future__ import annotations

import os
import sys
import threading

from bdflow_rt.errors import ForkedProcessError

_OPENVINO_CPU = "openvino_intel_cpu_plugin"
"""In the name of the file that OpenVINO loads when it first computes."""
_WAY_OUT = (
    "Start the workers by multiprocessing.get_context('spawn') or 'forkserver' instead, or fork them before the first "
    "picture."
)
_entered: dict[str, int] = {}
"""Library -> process in which it was first used."""
_inherited: set[str] = set()
"""Libraries that this process's parent may have used without our help."""


def enter_library(library: str, title: str) -> None:
    """State that this process computes with a library, before it does and before any lock is taken for it.

    Args:
        library: its name; `title` is what people call it.

    Raises:
        ForkedProcessError: it would hang, because the process that this one was forked from has used it.
    """
    if _entered.setdefault(library, os.getpid()) != os.getpid() or (library == "openvino" and library in _inherited):
        raise ForkedProcessError(
            f"This process was forked from one that had used {title}, whose threads no fork copies: it would "
            f"wait for them for ever. {_WAY_OUT}"
        )


def check_process(first: int) -> None:
    """Refuse an object that was first used in another process, given its number.

    Raises:
        ForkedProcessError: this process was forked from that one.
    """
    if first != os.getpid():
        raise ForkedProcessError(
            f"This Rescaler was used in process {first}, from which this one was forked without the threads of its "
            f"engines. {_WAY_OUT}"
        )


def torch_threads(threads: int | None) -> int | None:
    """The CPU threads that PyTorch may compute with here, of those asked for; None is its own setting.

    One is as many as a forked process can have where PyTorch was loaded before the fork: its others would be missing.

    Raises:
        ForkedProcessError: more are asked for.
    """
    if "torch" not in _inherited:
        return threads
    if threads is not None and threads > 1:
        raise ForkedProcessError(
            f"threads is {threads}, but this process was forked from one that had loaded PyTorch, whose threads no "
            f"fork copies. Leave threads out or pass 1. {_WAY_OUT}"
        )
    return 1


def fork_safe_lock() -> threading.Lock:
    """A lock for a module, which is free in a forked process whoever held it at the fork."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):  # absent where there is no fork
        os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]
    return lock


def _after_fork() -> None:
    if "torch" in sys.modules:
        _inherited.add("torch")
    if "openvino" in sys.modules and _has_mapped(_OPENVINO_CPU):
        _inherited.add("openvino")


def _has_mapped(name: str) -> bool:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return any(name in line for line in file)
    except OSError:
        return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
