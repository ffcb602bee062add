"""What the documents promise runs, and what they point to exists."""

import re
from pathlib import Path

import pytest

from nuclear_diffusion.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_readme_has_a_library_example_of_about_ten_lines():
    (example,) = EXAMPLES
    assert 5 <= len([line for line in example.splitlines() if line.strip()]) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_readme_example_runs(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"signal.mp4", "haze.mp4"}
    hazy, clean = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert clean > hazy


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_of_the_project_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"nuclear-diffusion (\w+)|nuclear_diffusion (\w+)", README))))
def test_commands_of_the_readme_exist(command, capsys):
    name = "".join(command)
    assert main([name, "--help"]) == 0
    assert name in capsys.readouterr().out


def test_readme_says_what_it_must_not_be_used_for():
    assert "Research use only" in README
