"""The hooks with which MkDocs builds the documentation's site: `make docs`.

Pages outside docs/ and pages of models are added, blocks `<!-- generated: NAME -->` filled, and links put right. A page
that loads anything from another host is a warning, which ends a strict build.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

from tools.measured import ROOT, shipped_cards
from tools.report_models import model_page
from tools.site_links import homes, relink
from tools.site_pages import commands, error_tree, exit_codes

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

BLOCKS = {"commands": commands, "exit-codes": exit_codes, "errors": error_tree}
"""Block of a page -> what fills it."""
MODELS = "Models"
"""Section of the navigation that the models' pages are added to."""
SOURCE_TREE = ROOT / "build" / "docs" / "bdflow_rt"
"""The package's sources, with the folders that install inside it: where docstrings are read."""
MAPPED = ("kernels", "export", "bench")
_LOADED = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc\s*=\s*["']?(?:https?:)?//[^"'\s>]+|"""
                     r"""<link\b(?=[^>]*\brel\s*=\s*["']?(?:stylesheet|preload|prefetch|preconnect|icon|modulepreload|dns-prefetch))[^>]*?\bhref\s*=\s*["']?(?:https?:)?//[^"'\s>]+""")  # fmt: skip
_LOADED_BY_STYLE = re.compile(r"""(?:@import|url\()\s*["']?\s*(?:https?:)?//[^"')\s]+""")
log = logging.getLogger(f"mkdocs.hooks.{__name__}")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for each model to the navigation, and lay out the package for whoever reads its docstrings."""
    (models,) = (section[MODELS] for section in config.nav or [] if MODELS in section)
    models += [{card.name: _model_uri(card.name)} for card in shipped_cards()]
    _copy_sources(SOURCE_TREE)
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


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Warn of what a page would load from another host."""
    for found in loaded_from_elsewhere(output):
        log.warning("%s loads from another host: %s", page.file.src_uri, found)
    return output


def on_post_build(*, config: MkDocsConfig) -> None:
    """Warn of what the site's other files would load from another host."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".css", ".html"):
            for found in loaded_from_elsewhere(path.read_text(encoding="utf-8")):
                log.warning("%s loads from another host: %s", path.name, found)


def loaded_from_elsewhere(text: str) -> list[str]:
    """What an HTML page or a stylesheet makes a browser load from another host; links to follow are none of it."""
    return [found[0] for pattern in (_LOADED, _LOADED_BY_STYLE) for found in pattern.finditer(text)]


def _model_uri(name: str) -> str:
    return f"models/{name}.md"


def _copy_sources(tree: Path) -> None:
    """Copies, not links: whoever reads docstrings resolves links, and so loses the folders from elsewhere."""
    shutil.rmtree(tree, ignore_errors=True)
    for source, target in (("bdflow_rt", ""), *((name, name) for name in MAPPED)):
        shutil.copytree(ROOT / source, tree / target, ignore=_other_than_sources, dirs_exist_ok=True)


def _other_than_sources(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(name).suffix != ".py" and not (Path(folder) / name).is_dir()]
