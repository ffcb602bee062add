"""What the documents promise runs, what they point to exists, and what they quote is in a table."""

import contextlib
import doctest
import importlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

import nuclear_diffusion
from nuclear_diffusion.cli import main
from nuclear_diffusion.restore.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(page for page in (ROOT / "benchmarks").rglob("*.md") if "finished" not in page.relative_to(ROOT).parts),
]
GUIDES = [page for page in PAGES if (ROOT / "benchmarks") not in page.parents]
SOURCES = Path(nuclear_diffusion.__file__).parent
COMMANDS = ("dehaze", "inspect", "render", "train", "simulate", "evaluate", "tune", "demo", "app")

ELSEWHERE = {"--strict", "--split", "--help", "--version"}
"""Options of other programs, and of all."""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def examples(language):
    return [
        pytest.param(page, text, id=name_of(page))
        for page in GUIDES
        for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    ]


@cache
def help_of(command, method=None):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main([command, *(["--method", method] if method else []), "--help"]) == 0
    return text.getvalue()


@pytest.mark.slow
def test_the_example_of_the_readme_dehazes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"signal.mp4", "haze.mp4"}
    hazy, dehazed = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert dehazed > hazy + 1


@pytest.mark.slow
@pytest.mark.parametrize(("page", "example"), [each for each in examples("python") if each.id != "README.md"])
def test_examples_of_the_guides_run(page, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, name_of(page), "exec"), {})


@pytest.mark.parametrize(("page", "example"), examples("pycon"))
def test_doctests_of_pages(page, example):
    test = doctest.DocTestParser().get_doctest(example, {}, name_of(page), str(page), 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_doctests_of_modules():
    for path in SOURCES.rglob("*.py"):
        if ">>> " in path.read_text(encoding="utf-8"):
            name = ".".join(["nuclear_diffusion", *path.relative_to(SOURCES).with_suffix("").parts])
            assert doctest.testmod(importlib.import_module(name.removesuffix(".__init__"))).failed == 0, name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_of_the_project_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_every_command_is_on_its_page():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert all(f"`{command}`" in page for command in COMMANDS)
    with contextlib.redirect_stdout(io.StringIO()) as text:
        main(["--help"])
    assert "{" + ",".join(COMMANDS) + "}" in text.getvalue()


@pytest.mark.parametrize("page", GUIDES + sorted((ROOT / "docs" / "notebooks").glob("*.py")), ids=name_of)
def test_commands_and_their_options_exist(page):
    for line in re.findall(r"nuclear-diffusion ([a-z]+ .*?)(?:`|$)", page.read_text(encoding="utf-8"), re.MULTILINE):
        command, *words = line.split("#")[0].split()
        if command in COMMANDS:
            method = words[words.index("--method") + 1] if "--method" in words and command == "dehaze" else None
            flags = {word for word in words if word.startswith("--")} - ELSEWHERE
            assert all(flag in help_of(command, method) for flag in flags), line


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_options_in_the_text_exist(page):
    every = "".join(help_of(command) for command in COMMANDS) + "".join(help_of("dehaze", each) for each in METHODS)
    prose = re.sub(r"^.*(?:mkdocs|benchmarks|pip install).*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    flags = set(re.findall(r"(?<=`)--[a-z][a-z-]+", prose)) - ELSEWHERE
    assert {flag for flag in flags if flag not in every} == set()


def test_numbers_of_the_readme_are_those_of_the_table():
    def table(path):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        start = next(index for index, line in enumerate(lines) if "gCNR" in line)
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 9]]
        return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]

    quoted, known = table(ROOT / "README.md"), table(ROOT / "benchmarks" / "results" / "unseen.md")
    assert len(quoted) == len(known) == 7
    for ours, theirs in zip(quoted, known, strict=True):
        for name in list(ours)[1:]:
            value = theirs[name].split(" [")[0]
            digits = len(ours[name].partition(".")[2])
            assert ours[name] == (value if value == "–" else f"{float(value):.{digits}f}"), (ours, name)


def test_the_index_of_decisions_has_each_with_its_status():
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(
        r"^\| \[(\d+)\]\((.+?)\) \| (.+) \| (.+) \|$", (folder / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for _, name, _, _ in rows] == sorted(page.name for page in folder.glob("0*.md"))
    for number, name, title, status in rows:
        text = (folder / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. {title}\n")
        assert all(f"**{part}" in text for part in ("Question.", "Choice.", "Evidence"))
        assert status


def test_the_readme_says_what_it_must():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Research use only" in text
    assert "trained on pairs of simulated hazy and clean clips" in text
    assert "The paper's prior knows clean frames only" in text


def test_the_readme_has_the_command_that_runs_the_tests():
    """The one that CI runs, too."""
    assert "python -m pytest -n 2" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python -m pytest -n 2" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_tests_that_the_threat_list_names_exist():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{test}"
