"""The tables of the pages come from bench/results, and are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT
from tools import report, report_speed

every_page = pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@every_page
def test_a_page_shows_the_committed_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert report.render(text, report.PAGES[page]) == text, "run: python -m tools.report"


@every_page
def test_every_table_has_its_place_on_its_page_and_every_place_its_table(page: Path) -> None:
    blocks = _blocks(page)
    assert blocks <= set(report.PAGES[page])
    if page.name != "README.md":  # which shows fewer tables than it may
        assert blocks == set(report.PAGES[page])
    assert blocks


def _blocks(page: Path) -> set[str]:
    return set(re.findall("<!-- table: (.*) -->", page.read_text(encoding="utf-8")))


@every_page
def test_a_changed_table_is_noticed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in _blocks(page):
        spoilt = text.replace(f"<!-- table: {name} -->\n", f"<!-- table: {name} -->\n| typed by hand |\n")
        assert spoilt != text
        assert report.render(spoilt, {name: report.PAGES[page][name]}) == text


def test_a_check_names_the_page_that_is_out_of_date_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {tmp_path / "old.md": {"it": lambda: ["now"]}, tmp_path / "new.md": {"it": lambda: ["before"]}}
    for page in pages:
        page.write_text("<!-- table: it -->\nbefore\n<!-- end -->\n")
    monkeypatch.setattr(report, "PAGES", pages)
    monkeypatch.setattr("sys.argv", ["report", "--check"])
    assert report.main() == 1
    assert capsys.readouterr().out == "old.md is out of date.\nnew.md is up to date.\n"
    assert "before" in (tmp_path / "old.md").read_text()
    monkeypatch.setattr("sys.argv", ["report"])
    assert report.main() == 0
    assert capsys.readouterr().out == "old.md was rewritten.\nnew.md is up to date.\n"


def test_the_share_of_a_matrix_product_is_of_both_ways_and_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    way = {"downscale": {"median_ms": 1.0}, "upscale": {"median_ms": 3.0}, "both_median_ms": 4.0}
    result = {"model": "m", "size": [8, 8], "cpu": "c", "cores": 2, "engines": {"openvino": way, "openvino_bf16": way}}
    measured = {**result, "macs": 10**6, "matrix_product_macs_per_s": 10**9}
    monkeypatch.setattr(report_speed, "read_all", lambda pattern: [result, measured])
    shares = [line.split(" | ")[-2] for line in report_speed.latency_table()[2:]]
    assert shares == ["-", "-", "50%", "-"]


def test_a_table_without_a_place_on_its_page_is_left_out() -> None:
    text = "<!-- table: here -->\n<!-- end -->\n"
    tables = {"here": lambda: ["| 1 |"], "nowhere": lambda: ["| 2 |"]}
    assert report.render(text, tables) == "<!-- table: here -->\n| 1 |\n<!-- end -->\n"


def test_a_kernel_that_has_newer_rows_is_left_out_of_the_table_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, times = {"name": "G"}, {"median_us": 2.0, "gb_per_s": 1.0, "fraction_of_copy": 0.5}
    kernels = [{"kernel": name, **times} for name in ("haar", "mask")]
    newer = {"pictures": "4K", "kernel": "mask", "after": {"median_us": 1.0, "fraction_of_copy": 1.0}}
    results = {
        "*/kernels.json": [{"gpu": gpu, "sizes": {"4K": {"kernels": kernels}}}],
        "*/mask.json": [{"gpu": gpu, "rows": [newer]}],
    }
    monkeypatch.setattr(report_speed, "read_all", results.__getitem__)
    assert report_speed.kernels_table()[2:] == ["| G | 4K | haar | 2.0 µs | 1 GB/s | 50 % |  |"]
    assert report_speed.mask_table()[2:] == ["| G | 4K | mask | 1.0 µs | 100 % |"]
