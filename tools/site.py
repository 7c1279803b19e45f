"""The hooks with which MkDocs builds the documentation's site: `make docs`.

Pages outside docs/ and pages of models are added, blocks `<!-- generated: NAME -->` filled, and links put right. A page
that loads anything from another host is a warning, which ends a strict build.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

from tools.measured import ROOT, shipped_cards
from tools.report_models import model_page
from tools.site_links import homes, relink
from tools.site_loads import loaded_from_elsewhere
from tools.site_pages import BLOCKS

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

MODELS = "Models"
"""Section of the navigation that the models' pages are added to."""
SOURCE_TREE = ROOT / "build" / "docs" / "bdflow_rt"
"""The package's sources, with the folders that install inside it: where docstrings are read."""
MAPPED = ("kernels", "export", "bench")
log = logging.getLogger(f"mkdocs.hooks.{__name__}")


def on_startup(*, command: str, dirty: bool) -> None:
    """Lay out the package for mkdocstrings, which looks for it before any later event."""
    _copy_sources(SOURCE_TREE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for each model to the navigation."""
    (models,) = (section[MODELS] for section in config.nav or [] if MODELS in section)
    models += [{card.name: _model_uri(card.name)} for card in shipped_cards()]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is not in docs/: pages of the repository's other folders, and of the models."""
    for source, page in homes().items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relink(text, source, page)))
    for card in shipped_cards():
        files.append(File.generated(config, _model_uri(card.name), content=model_page(card)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill a page's generated blocks, and have its links lead to pages of the site."""
    if page.file.generated_by is not None:
        return markdown
    for name, make in BLOCKS.items():
        markdown = markdown.replace(f"<!-- generated: {name} -->", make())
    return relink(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Warn of what the site's files would load from another host."""
    site = Path(config.site_dir)
    for path in sorted(site.rglob("*")):
        if path.suffix in (".css", ".html"):
            text = path.read_text(encoding="utf-8")
            for address in loaded_from_elsewhere(text, style=path.suffix == ".css"):
                log.warning("%s loads %s from another host", path.relative_to(site), address)


def _model_uri(name: str) -> str:
    return f"models/{name}.md"


def _copy_sources(tree: Path) -> None:
    """Copies, not links: whoever reads docstrings resolves links, and so loses the folders from elsewhere."""
    shutil.rmtree(tree, ignore_errors=True)
    for source, target in (("bdflow_rt", ""), *((name, name) for name in MAPPED)):
        shutil.copytree(ROOT / source, tree / target, ignore=_other_than_sources, dirs_exist_ok=True)


def _other_than_sources(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(name).suffix != ".py" and not (Path(folder) / name).is_dir()]
