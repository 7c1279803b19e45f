"""The tables of README.md come from bench/results, and are up to date."""

from __future__ import annotations

from bdflow_rt.bench import report


def test_readme_shows_the_committed_results() -> None:
    text = report.README.read_text(encoding="utf-8")
    assert report.render(text) == text, "run: python -m bdflow_rt.bench.report"


def test_every_table_has_its_place_in_the_readme() -> None:
    text = report.README.read_text(encoding="utf-8")
    for name in report.TABLES:
        assert f"<!-- table: {name} -->" in text


def test_a_changed_table_is_noticed() -> None:
    text = report.README.read_text(encoding="utf-8")
    spoilt = text.replace("<!-- table: quality -->\n", "<!-- table: quality -->\n| typed by hand |\n")
    assert spoilt != text
    assert report.render(spoilt) == text
