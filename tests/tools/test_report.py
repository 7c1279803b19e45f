"""The tables of the pages come from bench/results, and are up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import report, report_speed

every_page = pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)


@every_page
def test_a_page_shows_the_committed_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert report.render(text, report.PAGES[page]) == text, "run: python -m tools.report"


@every_page
def test_every_table_has_its_place_on_its_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in report.PAGES[page]:
        assert f"<!-- table: {name} -->" in text


@every_page
def test_a_changed_table_is_noticed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in report.PAGES[page]:
        spoilt = text.replace(f"<!-- table: {name} -->\n", f"<!-- table: {name} -->\n| typed by hand |\n")
        assert spoilt != text
        assert report.render(spoilt, report.PAGES[page]) == text


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
