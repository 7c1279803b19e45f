"""Compiled kernels are kept: nothing is compiled twice, and what is no kernel or not this user's is not loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bdflow_rt.cache import Blob
from bdflow_rt.errors import CacheTrustError
from bdflow_rt.kernels import compile as compiler
from bdflow_rt.kernels.compile import Compiled, Kernel, cache_key, cached

MADE = Compiled(name="_Z1k", log="ptxas info: Used 12 registers\n", cubin=bytes(range(256)) * 40 + b"\n\n")
SMALL = Kernel("haar.cuh", "bdflow::haar_forward<float, 1>")


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    """One that holds MADE."""
    blob = Blob("kernels", "0.cubin", tmp_path)
    assert cached(blob, lambda: MADE) == MADE
    return blob


def refuse() -> Compiled:
    raise AssertionError("compiled again")


def test_what_is_stored_is_not_compiled_again(blob: Blob) -> None:
    assert cached(blob, refuse) == MADE


def test_errors_of_the_compiler_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="compiled again"):
        cached(Blob("kernels", "0.cubin", tmp_path), refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]\nx", b"{}\nx", b'{"name": "k"}\n', b"\xff\xfe\n", b'{"more": 1}\n'])
def test_what_is_no_kernel_is_compiled_anew_and_replaced(blob: Blob, content: bytes) -> None:
    blob.write(content)
    assert cached(blob, lambda: MADE) == MADE
    assert cached(blob, refuse) == MADE


def test_a_kernel_that_others_could_have_planted_is_not_loaded(blob: Blob) -> None:
    blob.path.chmod(0o666)
    assert cached(blob, lambda: MADE) == MADE
    blob.path.parent.chmod(0o777)
    with pytest.raises(CacheTrustError, match="Other users can write to the cache"):
        cached(blob, lambda: MADE)


def test_a_cache_that_cannot_be_written_warns_and_works(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_bytes(b"in the way")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        assert cached(Blob("kernels", "0.cubin", tmp_path), lambda: MADE) == MADE


def test_the_key_changes_with_all_that_decides_the_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed, and NVRTC's version is part of the key")
    keys = {
        cache_key(SMALL, 90),
        cache_key(SMALL, 80),
        cache_key(Kernel("haar.cuh", "bdflow::haar_forward<float, 2>"), 90),
        cache_key(Kernel("other.cuh", SMALL.expression), 90),
    }
    assert cache_key(SMALL, 90) in keys
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "--use_fast_math"))
    keys.add(cache_key(SMALL, 90))
    monkeypatch.undo()
    sources = compiler._source_bytes()
    monkeypatch.setattr(compiler, "_source_bytes", lambda: (sources[0] + b"\n", *sources[1:]))
    keys.add(cache_key(SMALL, 90))
    assert len(keys) == 6
