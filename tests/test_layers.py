"""The layers of the package: imports point down only, and siblings do not import each other."""

import ast
from pathlib import Path

import pytest

import nuclear_diffusion

PACKAGE = Path(nuclear_diffusion.__file__).parent

LAYERS = [
    {"errors", "signals", "types", "version"},
    {"checks", "files", "memory", "options", "palette", "progress", "reporting", "text"},
    {"metrics", "priors", "sector"},
    {"paper"},
    {"io", "simulation"},
    {"restore"},
    {"view"},
    {"measure"},
    {"training", "app", "napari"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_layers(source: str, module: tuple[str, ...], is_package: bool) -> set[str]:
    """The layers that `source`, the text of `module` (its dotted name in the package), imports."""
    layers = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                here = ["nuclear_diffusion", *module]
                base = here[: len(here) - node.level + is_package] + base
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        layers |= {name[1] for name in names if name[0] == "nuclear_diffusion" and len(name) > 1}
    return layers


def violations(path: Path) -> list[str]:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    layer, is_package = parts[0], parts[-1] == "__init__"
    module = parts[:-1] if is_package else parts
    found = imported_layers(path.read_text(encoding="utf-8"), module, is_package) - {layer}
    return [
        f"{'.'.join(parts)} imports {other}"
        for other in sorted(found)
        if other not in RANK or RANK[other] >= RANK[layer]
    ]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_module_belongs_to_a_layer():
    assert {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES} <= RANK.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down_only(path):
    assert violations(path) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nuclear_diffusion.cli", {"cli"}),
        ("from nuclear_diffusion.io import read_video", {"io"}),
        ("from nuclear_diffusion import metrics", {"metrics"}),
        ("def f():\n    from ..measure import scores", {"measure"}),
        ("from .separation import Separation", {"paper"}),
        ("import numpy", set()),
    ],
)
def test_the_parser_sees_every_way_to_import(source, expected):
    assert imported_layers(source, ("paper", "sample"), is_package=False) == expected


def test_relative_imports_of_a_package_start_at_the_package():
    assert imported_layers("from .. import cli", ("paper",), is_package=True) == {"cli"}
    assert imported_layers("from .rpca import robust_pca", ("paper",), is_package=True) == {"paper"}
