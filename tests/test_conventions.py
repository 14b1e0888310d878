"""How the code reads, as far as a machine can tell: sizes, annotations, docstrings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "alphajax").rglob("*.py"))
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
NAMES = {path: str(path.relative_to(ROOT)) for path in [*PACKAGE, *SCRIPTS, *TESTS]}

MAX_FILES, MAX_LINES, MAX_FUNCTION, MAX_COLUMNS, MAX_MODULE_DOCSTRING = 13, 450, 80, 100, 12


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def public(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions of a module, and methods of its public classes, whose names are public."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += [child for child in node.body if isinstance(child, ast.FunctionDef)]
    return [node for node in found if not node.name.startswith("_")]


def test_folders_are_small():
    for folder in {path.parent for path in PACKAGE}:
        assert len(list(folder.glob("*.py"))) <= MAX_FILES, folder


@pytest.mark.parametrize("path", NAMES, ids=NAMES.get)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        assert len(line) <= MAX_COLUMNS, f"{path}:{number}"
    if path in TESTS:
        return
    assert len(text.splitlines()) <= MAX_LINES
    for node in functions(ast.parse(text)):
        length = (node.end_lineno or 0) - node.lineno + 1
        assert length <= MAX_FUNCTION, f"{path}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", [*PACKAGE, *SCRIPTS], ids=NAMES.get)
def test_public_functions_are_annotated_and_documented(path):
    tree = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree)
    assert docstring, f"{path} has no docstring"
    if path in PACKAGE:
        assert len(docstring.splitlines()) <= MAX_MODULE_DOCSTRING
    for node in public(tree):
        where = f"{path}:{node.lineno} {node.name}"
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in arguments:
            if argument.arg not in ("self", "cls"):
                assert argument.annotation is not None, f"{where}: {argument.arg}"
        assert node.returns is not None, where


def uses_private_member(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
        return False
    # NamedTuples spell their public methods with an underscore.
    return not node.attr.startswith("__") and node.attr not in (
        "_replace",
        "_asdict",
        "_fields",
        "_make",
    )


@pytest.mark.parametrize("path", TESTS, ids=NAMES.get)
def test_tests_touch_no_private_member(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if uses_private_member(node):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            assert own, f"{path}:{node.lineno} {ast.unparse(node)}"


def test_every_module_has_a_test_file():
    tests = {str(path.relative_to(ROOT / "tests")) for path in TESTS}
    missing = []
    for path in PACKAGE:
        place = path.relative_to(ROOT / "alphajax")
        if place.name != "__init__.py" and str(place.with_name(f"test_{place.name}")) not in tests:
            missing.append(str(place))
    assert not missing
