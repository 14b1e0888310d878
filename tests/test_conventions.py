"""How the code reads, as far as a machine can tell: sizes, annotations, docstrings."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "alphajax").rglob("*.py"))
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ALL = [*PACKAGE, *SCRIPTS, *TESTS]

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


def test_lines_fit_the_page():
    for path in ALL:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) <= MAX_COLUMNS, f"{path}:{number}"


def test_files_and_functions_are_short():
    for path in [*PACKAGE, *SCRIPTS]:
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_LINES, path
        for node in functions(ast.parse(text)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_modules_are_documented():
    for path in [*PACKAGE, *SCRIPTS]:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, f"{path} has no docstring"
        if path in PACKAGE:
            assert len(docstring.splitlines()) <= MAX_MODULE_DOCSTRING, path


def test_public_functions_are_annotated():
    for path in [*PACKAGE, *SCRIPTS]:
        for node in public(ast.parse(path.read_text())):
            where = f"{path}:{node.lineno} {node.name}"
            assert node.returns is not None, where
            for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                if argument.arg not in ("self", "cls"):
                    assert argument.annotation is not None, f"{where}: {argument.arg}"


DIALECT = re.compile(
    r"go(es)? with the winners|learned eye|\ba help\b|mastery|one_of_each|taken back"
    r"|unlearned rival|\blesson\b|\bevened\b|looked_at|gives way|told apart|whatever"
    r"|that which|\bbegun\b"
)
"""Words of versions before 0.2 that have a standard term."""


def test_the_code_uses_standard_terms():
    for path in [*PACKAGE, *SCRIPTS]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not DIALECT.search(line), f"{path}:{number}: {line.strip()}"


def uses_private_member(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
        return False
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        return False
    # NamedTuples spell their public methods with an underscore.
    public_names = ("_replace", "_asdict", "_fields", "_make")
    return not node.attr.startswith("__") and node.attr not in public_names


def test_tests_touch_no_private_member():
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not uses_private_member(node), f"{path}:{getattr(node, 'lineno', 0)}"


def test_every_module_has_a_test_file():
    tests = {str(path.relative_to(ROOT / "tests")) for path in TESTS}
    missing = []
    for path in PACKAGE:
        place = path.relative_to(ROOT / "alphajax")
        if place.name != "__init__.py" and str(place.with_name(f"test_{place.name}")) not in tests:
            missing.append(str(place))
    assert not missing
