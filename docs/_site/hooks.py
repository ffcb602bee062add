"""What MkDocs adds to the pages when it builds the site: help texts, docstrings, results, and equations as MathML.

The pages read well in the file tree too, so links point at files of the repository. Those outside `docs` that the site
has as well are mounted here, and links to them are rewritten.
"""

import contextlib
import html
import inspect
import io
import itertools
import os
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from markdown.extensions import Extension
from markdown.inlinepatterns import SimpleTextInlineProcessor
from mkdocs.structure.files import File, InclusionLevel

import nuclear_diffusion
from nuclear_diffusion.cli import main
from nuclear_diffusion.restore.methods import METHODS

ROOT = Path(__file__).parents[2]
COMMANDS = ("dehaze", "inspect", "render", "train", "simulate", "evaluate", "tune", "demo", "app")
MOUNTED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


class NuclearNorms(Extension):
    """The star of ||L||_* opens no emphasis."""

    def extendMarkdown(self, md):
        """Take it before emphasis and after code."""
        md.inlinePatterns.register(SimpleTextInlineProcessor(r"(_\*)"), "nuclear norms", 185)


def on_config(config):
    """Docstrings and pages alike."""
    config.markdown_extensions.append(NuclearNorms())
    return config


def on_files(files, config):
    """Mount the pages that lie outside `docs`."""
    for source in (ROOT / "benchmarks").rglob("*"):
        if source.suffix in (".md", ".png", ".csv"):
            path = source.relative_to(ROOT).as_posix()
            MOUNTED[path] = path
    for source, target in MOUNTED.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source), inclusion=InclusionLevel.INCLUDED))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fill in what is made at build time, and turn links within the repository into links within the site."""
    markdown = markdown.replace("<!-- help of every command -->", _help())
    markdown = markdown.replace("<!-- docstrings of every public name -->", _reference())
    return re.sub(r"(?<=\]\()([^)#\s:]+)(?=[)#])", lambda link: _in_site(link[0], page.file.src_uri), markdown)


def on_page_content(content, page, config, files):
    """Equations of the notebooks as MathML, which browsers show without a script, and links as in other pages."""
    if not page.file.src_uri.startswith("notebooks/"):
        return content
    content = re.sub(r"<script[^>]*mathjax.*?</script>", "", content, flags=re.DOTALL | re.IGNORECASE)
    parts = re.split(r"(<(script|style|pre)\b.*?</\2>)", content, flags=re.DOTALL)
    parts[::3] = [re.sub(r"\$([^$<>]{1,200})\$", _mathml, prose) for prose in parts[::3]]
    content = "".join(part for index, part in enumerate(parts) if index % 3 < 2)  # the third is the tag's name
    return re.sub(r'href="\.\./([\w./-]+?)(README)?\.md"', r'href="../../\1"', content)


def _mathml(math):
    return convert(html.unescape(math[1]).replace("\n", " "))


def _in_site(target, page):
    """`target`, a link in the file `page` of the site, to where the site has it."""
    home = next((source for source, mounted in MOUNTED.items() if mounted == page), f"docs/{page}")
    source = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    found = MOUNTED.get(source) or (source.removeprefix("docs/") if source.startswith("docs/") else None)
    if found is None:
        return target
    return posixpath.relpath(found, posixpath.dirname(page) or ".")


def _help():
    os.environ["COLUMNS"], os.environ["NO_COLOR"] = "100", "1"
    calls = [[name] for name in COMMANDS] + [["dehaze", "--method", name] for name in METHODS if name != "nuclear"]
    parts = []
    for call in calls:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            main([*call, "--help"])
        parts.append(f"## `{' '.join(call)}`\n\n```text\n{text.getvalue().strip()}\n```\n")
    return "\n".join(parts)


def _reference():
    parts = []
    public = {name: getattr(nuclear_diffusion, name) for name in dir(nuclear_diffusion) if name != "__version__"}
    modules = {name: value for name, value in public.items() if inspect.ismodule(value)}
    places = sorted((value.__module__, name) for name, value in public.items() if name not in modules)
    for module, names in itertools.groupby(places, key=lambda place: place[0]):
        parts.append(f"## `{module}`\n")
        parts += [f"::: {module}.{name}\n" for _, name in names]
    for alias, module in modules.items():
        parts.append(f"## `nd.{alias}`\n\n::: {module.__name__}\n")
    return "\n".join(parts)
