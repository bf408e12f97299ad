"""The wheel: what is in it, what it asks for, and that it holds to the oldest Python it promises."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from edgewright.engine import environments

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "edgewright"
MODULES = {
    "pillow": "PIL",
    "cyclonedx-python-lib": "cyclonedx",
    "ethos-u-vela": "ethosu",
    "opencv-python-headless": "cv2",
    "tensorflow-cpu": "tensorflow",
    "tf-keras": "tf_keras",
}
"""Distributions whose modules have another name."""
BROUGHT_ALONG = {"google", "packageurl", "tqdm"}
"""Modules that onnx, cyclonedx-python-lib and coremltools cannot be installed without."""
NEWER = {
    "asyncio.Runner", "asyncio.TaskGroup", "asyncio.timeout", "contextlib.chdir", "datetime.UTC", "enum.EnumCheck",
    "enum.ReprEnum", "enum.StrEnum", "enum.member", "enum.nonmember", "enum.verify", "hashlib.file_digest",
    "inspect.getmembers_static", "itertools.batched", "logging.getLevelNamesMapping", "math.cbrt", "math.exp2",
    "math.sumprod", "operator.call", "tomllib", "typing.LiteralString", "typing.Never", "typing.NotRequired",
    "typing.Required", "typing.Self", "typing.TypeAliasType", "typing.TypeVarTuple", "typing.Unpack",
    "typing.assert_never", "typing.assert_type", "typing.dataclass_transform", "typing.get_overloads",
    "typing.override", "typing.reveal_type", "warnings.deprecated", "wsgiref.types",
}  # fmt: skip
"""Names of the standard library that Python 3.10 lacks."""
NEWER_BUILTINS = {"BaseExceptionGroup", "ExceptionGroup", "PythonFinalizationError"}
NEWER_METHODS = {"add_note", "walk_up", "is_junction", "full_match"}


def sources() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 100
    return found


def newer_than_310(code: str) -> list[str]:
    """What of `code` Python 3.10 does not know, outside `if sys.version_info` and `if TYPE_CHECKING`."""
    tree = ast.parse(code, feature_version=(3, 10))
    guarded = {  # type checkers and newer interpreters alone read these branches
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and re.search("version_info|TYPE_CHECKING", ast.unparse(node.test))
        for part in (*node.body, *node.orelse)
        for inner in ast.walk(part)
    }
    named = (name for node in ast.walk(tree) if id(node) not in guarded for name in _names(node))
    return sorted(set(named) & (NEWER | NEWER_BUILTINS | NEWER_METHODS))


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield str(node.module)
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Attribute):
        yield ast.unparse(node)
        yield node.attr
    elif isinstance(node, ast.Name) and node.id in NEWER_BUILTINS:
        yield node.id


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from typing import Self", ["typing.Self"]),
        ("import datetime\nnow = datetime.datetime.now(datetime.UTC)", ["datetime.UTC"]),
        ("import tomllib", ["tomllib"]),
        ("error.add_note('x')", ["add_note"]),
        ("raise ExceptionGroup('x', [])", ["ExceptionGroup"]),
        ("if sys.version_info >= (3, 11):\n    import tomllib\ntomllib.loads('')", []),
        ("from typing import TypeAlias", []),
    ],
)
def test_the_check_sees_newer_names(code: str, found: list[str]) -> None:
    assert newer_than_310(code) == found


@pytest.mark.parametrize("code", ["type X = int", "def f[T](x: T) -> T: ...", "try: ...\nexcept* OSError: ..."])
def test_the_check_sees_newer_syntax(code: str) -> None:
    with pytest.raises(SyntaxError):
        newer_than_310(code)


@pytest.mark.slow
def test_nothing_is_newer_than_the_oldest_python() -> None:
    wrong = {str(path.relative_to(ROOT)): newer_than_310(path.read_text(encoding="utf-8")) for path in sources()}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.slow
def test_types_hold_on_the_oldest_python() -> None:
    """The usual run takes 3.11 because NumPy's own types need it; this one sees what 3.10's library lacks."""
    line = [sys.executable, "-m", "mypy", "--python-version", "3.10"]
    found = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def requirements() -> dict[str, set[str]]:
    """Extra -> distributions; the core's own are under the empty name. Extras of extras are left out."""
    found: dict[str, set[str]] = {}
    for line in importlib.metadata.requires("edgewright") or []:
        one = Requirement(line)
        extra = re.search(r"""extra == ['"]([^'"]+)""", line)
        if one.name != "edgewright":
            found.setdefault(extra.group(1) if extra else "", set()).add(one.name)
    return found


def module_of(distribution: str) -> str:
    return MODULES.get(distribution, distribution.replace("-", "_"))


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports, by statement or by a name in a string."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("require", "import_module")):
            found |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return {name.split(".")[0] for name in found} - {"edgewright"} - set(sys.stdlib_module_names) - {"tomllib"}


def all_imported() -> set[str]:
    return set().union(*(imported(path) for path in sources()))


@pytest.mark.slow
def test_every_import_is_declared() -> None:
    offered = {module_of(name) for names in requirements().values() for name in names}
    locked = {module_of(name) for toolchain in environments.names() for name in environments.read(toolchain).pins}
    assert not all_imported() - offered - BROUGHT_ALONG - locked


@pytest.mark.slow
def test_every_requirement_is_imported() -> None:
    used = all_imported()
    stated = [(extra, name) for extra, names in requirements().items() for name in names]
    assert not [(extra, name) for extra, name in stated if module_of(name) not in used]


def test_core_asks_for_no_framework() -> None:
    assert requirements()[""] == {"msgspec", "numpy", "packaging", "rich", "tomli", "typer"}


def test_all_is_every_extra() -> None:
    """`device` is made of others, and `all` has what all others have."""
    nested: dict[str, set[str]] = {}
    for line in importlib.metadata.requires("edgewright") or []:
        one, extra = Requirement(line), re.search(r"""extra == ['"]([^'"]+)""", line)
        if one.name == "edgewright" and extra:
            nested[extra.group(1)] = one.extras
    assert nested["all"] == set(requirements()) - {""}
    assert nested["device"] < nested["all"]


def test_every_install_line_in_the_code_resolves() -> None:
    real = set(requirements()) | {"device", "all"}
    for path in sources():
        for extras in re.findall(r"edgewright\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= real, f"{path}: {extras}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Built without network, from a copy: nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    line = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    made = subprocess.run(
        [sys.executable, "-c", line, str(folder / "dist")], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    (path,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    here = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == here
    assert {Path(name).suffix for name in packed} == {".py", ".jinja", ".css", ".js", ".typed", ".txt"}
    assert {"edgewright/py.typed", "edgewright/bundle/model-card.md.jinja"} < packed
    assert sum(name.startswith("edgewright/report/templates/") for name in packed) >= 5


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    (metadata,) = (wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0" in metadata
    accepted = SpecifierSet(re.findall(r"^Requires-Python: (.+)$", metadata, re.MULTILINE)[0])
    assert [version in accepted for version in ("3.9", "3.10", "3.11", "3.13")] == [False, True, True, True]
    (entry,) = (wheel.read(name).decode() for name in names if name.endswith(".dist-info/entry_points.txt"))
    assert "edgewright = edgewright.cli.main:main" in entry
