"""What `test_fork` runs in a process of its own: `python -m tests.forked CASE` prints what became of the child."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, ForkServerContext, SpawnContext

import numpy as np

from bdflow_rt import Rescaler
from bdflow_rt.errors import BdflowError

MODEL = "bdflow-x2-fast"
LIMIT_S = 60
"""Far above what a busy machine needs for a picture of this size; whoever waits for a thread waits for ever."""
_image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)  # large enough for several threads
_mine: list[Rescaler] = []
"""The parent's, where its child can find it."""


def picture(rescaler: Rescaler, *, refine: int = 0) -> None:
    """Both directions."""
    restored = rescaler.upscale(rescaler.downscale(_image, refine=refine))
    assert restored.shape == _image.shape


def own(backend: str, threads: int | None = None, refine: int = 0) -> None:
    """A picture by a Rescaler that is made here."""
    with Rescaler.from_pretrained(MODEL, backend=backend, threads=threads) as rescaler:
        picture(rescaler, refine=refine)


def parents() -> None:
    """A picture by the parent's Rescaler."""
    with _mine[0]:
        picture(_mine[0])


def in_child(work: Callable[[], None], context: ForkContext | SpawnContext | ForkServerContext | None = None) -> str:
    """Run something in a child: "done", the error's class and whether it says what to do, or "hangs"."""
    context = context or multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_report, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        return str(ours.recv()) if ours.poll(LIMIT_S) else "hangs"
    except EOFError:
        process.join()
        return f"ended with {process.exitcode}"
    finally:
        process.kill()


def _report(work: Callable[[], None], answer: Connection) -> None:
    try:
        work()
    except BdflowError as error:
        answer.send(type(error).__name__ + (", says spawn" if "'spawn'" in str(error) else ""))
    else:
        answer.send("done")


def keep(backend: str, *, threads: int | None = 2, used: bool = True) -> Rescaler:
    """Make the parent's Rescaler."""
    _mine.append(Rescaler.from_pretrained(MODEL, backend=backend, threads=threads))
    if used:
        picture(_mine[0])
    return _mine[0]


def own_openvino() -> None:
    own("openvino")


def own_torch() -> None:
    own("torch")


def own_torch_refined() -> None:
    own("torch", refine=2)


def own_torch_with_two_threads() -> None:
    own("torch", threads=2)


def openvino_was_used_and_own() -> str:
    keep("openvino")
    return in_child(own_openvino)


def openvino_was_used_and_closed_and_own() -> str:
    keep("openvino").close()
    return in_child(own_openvino)


def openvino_was_used_and_parents() -> str:
    keep("openvino")
    return in_child(parents)


def openvino_was_used_and_torch() -> str:
    keep("openvino")
    return in_child(own_torch)


def torch_was_used_and_own() -> str:
    keep("torch")
    return in_child(own_torch_with_two_threads)


def torch_was_used_and_parents() -> str:
    keep("torch")
    return in_child(parents)


def nothing_was_used_and_own() -> str:
    return in_child(own_openvino)


def nothing_was_used_and_parents() -> str:
    keep("openvino", used=False)
    return in_child(parents)


def a_child_of_a_sound_child() -> str:
    return in_child(_own_and_then_a_child)


def _own_and_then_a_child() -> None:
    own_openvino()
    assert in_child(own_openvino).startswith("ForkedProcessError")


def spawn() -> str:
    keep("openvino")
    return in_child(own_openvino, multiprocessing.get_context("spawn"))


def forkserver() -> str:
    keep("openvino")
    return in_child(own_openvino, multiprocessing.get_context("forkserver"))


def _host_uses_torch() -> None:
    import torch

    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.rand(1, 8, 512, 512), torch.rand(8, 8, 3, 3)).exp()


def host_used_torch() -> str:
    _host_uses_torch()
    return in_child(own_torch_refined)


def host_used_torch_and_two_threads_are_asked_for() -> str:
    _host_uses_torch()
    return in_child(own_torch_with_two_threads)


def host_used_openvino() -> str:
    from bdflow_rt.quiet import import_quietly
    from bdflow_rt.zoo import find_model

    openvino = import_quietly("openvino")
    path = str(find_model(MODEL).check_graph("downscale").resolve())
    core = openvino.Core()
    core.compile_model(path, "CPU")([_image[None]])
    return in_child(own_openvino)


def a_thread_makes_a_picture() -> str:
    rescaler, busy, forked = keep("openvino", used=False), threading.Event(), threading.Event()

    def progress(done: int, count: int) -> None:
        busy.set()
        forked.wait()

    thread = threading.Thread(target=rescaler.downscale, args=(_image,), kwargs={"progress": progress})
    thread.start()
    busy.wait()
    answer = in_child(parents)  # whose end closes it as well
    forked.set()
    thread.join()
    picture(rescaler)  # which the child has not spoiled
    return answer


def a_job_is_waited_for() -> str:
    job = keep("openvino").submit_downscale(_image)

    def wait() -> None:
        job.wait()

    answer = in_child(wait)
    job.wait()
    return answer


def opencv_was_used() -> str:
    _opencv()
    return in_child(_opencv)


def _opencv() -> None:
    import cv2

    from bdflow_rt.kernels import boundary_mask

    large = np.tile(_image, (5, 5, 1))
    cv2.setNumThreads(2)
    boundary_mask(large)
    cv2.GaussianBlur(large, (31, 31), 0)


def the_child_leaves_by_sys_exit() -> str:
    keep("openvino")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        sys.exit(0)
    os.close(writing)
    # Its end of the pipe is closed when it is gone.
    done = multiprocessing.connection.wait([reading], LIMIT_S)
    if not done:
        os.kill(child, 9)
    os.waitpid(child, 0)
    return "done" if done else "hangs"


if __name__ == "__main__":
    sys.stdout.write(globals()[sys.argv[1]]())
