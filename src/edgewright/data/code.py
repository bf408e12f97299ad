"""The user's own functions: `module:function`, found beside the project, and what their code is."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from edgewright.core.digest import Digest
from edgewright.errors import ConfigError


def load_function(reference: str, root: Path, where: str = "function") -> Callable[..., Any]:
    """Returns the function that `module:function` names.

    The module is looked for in `root` first, then where Python looks. Neither the search path nor the table of
    loaded modules keeps a trace of a module from `root`, and no `__pycache__` is written there: import what the
    function needs at the top of its module.

    Raises:
        ConfigError: The reference is malformed, there is no such module or function, or importing it raises.
    """
    module_name, function = _parts(reference, where)
    try:
        with _importing_from(root):
            module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            message = f"{where}: there is no module {module_name!r}, neither in {root} nor installed"
            raise ConfigError(message, hint="correct the name, or put the file beside the project file") from error
        message = f"{where}: importing {module_name} raised {type(error).__name__}: {error}"
        raise ConfigError(message, hint=f"correct {module_name}, or install what it imports") from error
    found = getattr(module, function, None)
    if not callable(found):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        message = f"{where}: the module {module_name} has no function {function!r}"
        raise ConfigError(message, hint=f"it has {', '.join(names) or 'none'}")
    return found  # type: ignore[no-any-return]


def code_digest(reference: str, root: Path, where: str = "function") -> Digest:
    """Returns the digest of the code that `module:function` may run: its package, or the modules beside it.

    Args:
        reference: `module:function`.
        root: Folder of the project; its modules come first.
        where: Named in errors.

    Raises:
        ConfigError: There is no such module.
    """
    module_name, _ = _parts(reference, where)
    top = module_name.split(".")[0]
    if (root / top).is_dir():
        base, files = root / top, sorted((root / top).rglob("*.py"))
    elif (root / f"{top}.py").is_file():
        base, files = root, sorted(root.glob("*.py"))
    else:
        base, files = _installed(top, root, where)
    state = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        state.update(f"{path.relative_to(base).as_posix()}\0{len(content)}\0".encode())
        state.update(content)
    return Digest("sha256:" + state.hexdigest())


def _installed(top: str, root: Path, where: str) -> tuple[Path, list[Path]]:
    spec = importlib.util.find_spec(top)
    if spec is None:
        message = f"{where}: there is no module {top!r}, neither in {root} nor installed"
        raise ConfigError(message, hint="correct the name, or put the file beside the project file")
    if spec.submodule_search_locations:
        base = Path(next(iter(spec.submodule_search_locations)))
        return base, sorted(base.rglob("*.py"))
    path = Path(spec.origin or "")
    return path.parent, [path] if path.is_file() else []


def _parts(reference: str, where: str) -> tuple[str, str]:
    module, colon, function = reference.partition(":")
    if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        message = f"{where}: {reference!r} does not name a function"
        raise ConfigError(message, hint='write "module:function"; module.py lies beside the project file')
    return module, function


@contextlib.contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    local = {path.stem for path in root.glob("*.py")} | {path.parent.name for path in root.glob("*/*.py")}
    local -= set(sys.stdlib_module_names) | {"edgewright"}
    aside = {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] in local and not _lies_in(module, root) and _shadowed(name, root)
    }
    before, writes = list(sys.path), sys.dont_write_bytecode
    present = set(sys.modules) - set(aside)
    for name in aside:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = before, writes
        for name in [n for n, m in sys.modules.items() if n not in present and _lies_in(m, root)]:
            del sys.modules[name]
        sys.modules.update(aside)


def _shadowed(name: str, root: Path) -> bool:
    top = name.split(".", maxsplit=1)[0]
    return (root / f"{top}.py").is_file() or (root / top / "__init__.py").is_file()


def _lies_in(module: ModuleType, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", []))
    return any(Path(place).resolve().is_relative_to(root.resolve()) for place in places)
