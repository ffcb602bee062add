"""`docs/equations.md` points at symbols and tests that exist, and leaves no equation out."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "equations.md"


def rows():
    """(paper, symbol, test) of every line of the table; a cell may hold an escaped bar."""
    table = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[2].startswith("`"):
            table.append((cells[0], cells[2].strip("`"), cells[3].strip("`")))
    return table


def find(symbol):
    """Import the longest module that `symbol` begins with, and look the rest up in it."""
    parts = symbol.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(symbol)


@pytest.mark.parametrize(("paper", "symbol", "test"), rows(), ids=lambda value: str(value))
def test_symbol_and_test_exist(paper, symbol, test):
    assert callable(find(symbol))
    path, name = test.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_equation_and_every_line_is_there():
    papers = [paper for paper, _, _ in rows()]
    equations = {int(number) for paper in papers for number in re.findall(r"^\((\d+)\)", paper)}
    assert equations == set(range(1, 15))
    lines = set()
    for first, last in re.findall(r"lines? (\d+)(?:-(\d+))?", " ".join(papers)):
        lines |= set(range(int(first), int(last or first) + 1))
    assert lines == set(range(1, 12))


def test_symbols_that_do_not_exist_are_noticed():
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        find("nuclear_diffusion.paper.nuclear_norm.NuclearNorm.no_such_method")
