"""Writes `docs/reference/` from the code; with `--check` it only says whether that is up to date."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate_reference.py; change the code's docstrings, not this page. -->\n\n"


def prose(text: str | None) -> str:
    """Returns a docstring without its Attributes, Args, Returns and Raises sections."""
    text = inspect.cleandoc(text or "")
    return re.split(r"\n+(?:Attributes|Args|Returns|Raises|Yields):\n", text)[0].strip()


def attributes(kind: type) -> dict[str, str]:
    """Returns field name -> its text in the docstring's Attributes section."""
    match = re.search(
        r"\n\s*Attributes:\n(.*?)(?:\n\s*(?:Raises|Args):\n|\Z)", inspect.cleandoc(kind.__doc__ or ""), re.S
    )
    found: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(match[1]).splitlines() if match else ():
        start = re.match(r"(\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name:
            found[name] += " " + line.strip()
    return found


def shown_type(hint: Any) -> str:  # noqa: PLR0911 - one line per kind of type
    """Returns a type as one would say it in TOML."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return "any"
    if origin is typing.Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if origin in (tuple, list):
        return (
            f"list of {shown_type(arguments[0])}"
            if arguments[1:] in ((...,), ())
            else f"[{', '.join(map(shown_type, arguments))}]"
        )
    if origin is not None and isinstance(origin, type) and issubclass(origin, typing.Mapping):  # type: ignore[arg-type]
        return "table"
    if origin is not None:
        return " or ".join(shown_type(argument) for argument in arguments if argument is not type(None))
    names = {"str": "string", "bool": "true or false", "int": "integer", "float": "number"}
    if dataclasses.is_dataclass(hint):
        return "table"
    return names.get(getattr(hint, "__name__", str(hint)), str(hint))


def shown_default(field: dataclasses.Field[Any]) -> str:
    """Returns a default as one would write it in TOML."""
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "required"
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    if value is None or dataclasses.is_dataclass(value) or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value!r}`".replace("'", '"')


def fields_table(kind: Any, leave_out: Iterable[str] = ()) -> str:
    """Returns a Markdown table of a dataclass's fields."""
    hints, told = typing.get_type_hints(kind), attributes(kind)
    rows = [
        f"| `{f.name}` | {shown_type(hints[f.name])} | {shown_default(f)} | {told.get(f.name, '')} |".replace(
            " or |", " |"
        )
        for f in dataclasses.fields(kind)
        if f.name not in leave_out
    ]
    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows]) + "\n" if rows else "No keys.\n"


def section(title: str, kind: Any, level: int = 2) -> str:
    """Returns a heading, the prose of a dataclass and its table."""
    return f"{'#' * level} {title}\n\n{prose(kind.__doc__)}\n\n{fields_table(kind)}"


def command_line() -> str:
    """Every verb with its help, as `--help` prints it."""
    from typer.main import get_command

    from edgewright.cli import main

    if not main.app.registered_commands:
        main._register()
    parts = [
        "# Command line\n\nExit codes are listed under [errors](errors.md). Every verb that reports takes `--json`.\n"
    ]

    def walk(command: Any, name: str) -> None:
        children = getattr(command, "commands", None)
        if children:
            for child in sorted(children):
                walk(children[child], f"{name} {child}")
            return
        parts.append(f"## {name}\n\n{inspect.cleandoc(command.help or '')}\n\n{parameters(command)}")

    walk(get_command(main.app), "edgewright")
    return "\n".join(parts)


def parameters(command: Any) -> str:
    """Returns a table of a command's arguments and options."""
    rows = []
    for parameter in command.params:
        is_option = parameter.param_type_name == "option"
        names = " ".join(f"`{o}`" for o in parameter.opts) if is_option else f"`{parameter.name}`"
        default = "required" if parameter.required else f"`{parameter.default}`"
        if parameter.default in (None, False, ()) and not parameter.required:
            default = ""
        rows.append(f"| {names} | {getattr(parameter, 'help', '') or ''} | {default} |")
    return "\n".join(["| argument or option | | default |", "|---|---|---|", *rows]) + "\n"


def project_file() -> str:
    """Every table of `edgewright.toml`."""
    from edgewright.core.budget import Budget
    from edgewright.core.tensors import TensorSpec
    from edgewright.project import config
    from edgewright.search.request import QualityConfig, SearchConfig, TrainingConfig

    tables = (
        ("Top level", config.ProjectFile), ("[model]", config.ModelConfig), ("[[model.inputs]]", TensorSpec),
        ("[quality]", QualityConfig), ("[budget]", Budget), ("[search]", SearchConfig),
        ("[training]", TrainingConfig), ("[[recipes]]", config.RecipeConfig), ("[output]", config.OutputConfig),
    )  # fmt: skip
    head = (
        "# edgewright.toml\n\nAn unknown key is an error that suggests the near one. `${NAME}` is replaced by the"
        " environment variable. Relative paths start at the file's folder.\n\n`[data]` is described under"
        " [data](data.md), `[[preprocess]]` and `[[postprocess]]` under [pipeline](pipeline.md), the keys of"
        " `[[targets]]` under [targets](targets.md).\n"
    )
    return "\n".join([head, *(section(title, kind) for title, kind in tables)])


def data() -> str:
    """The readers of `[data]`."""
    from edgewright.data.readers import READERS

    head = (
        "# Data\n\n`[data]` names a `reader`; its keys are defaults for the tables `[data.calibration]`,"
        " `[data.tune]` and `[data.test]`, and `[data.train]` and `[data.unlabelled]` where there are any. "
        "The search chooses on `tune` and reports on `test`; splits that share samples with one of them are refused. "
        "Passes that train learn from the last two.\n"
    )
    return "\n".join([head, *(section(f'reader = "{name}"', kind) for name, kind in sorted(READERS.items()))])


def pipeline() -> str:
    """The operations before and after the model."""
    from edgewright.pipeline.postprocess import POSTPROCESSING
    from edgewright.pipeline.preprocess import PREPROCESSING

    parts = ["# Pre- and post-processing\n\nThe same lists, run by the same code, serve the search and the device.\n"]
    for title, catalogue in (("[[preprocess]]", PREPROCESSING), ("[[postprocess]]", POSTPROCESSING)):
        parts.append(f"## {title}\n")
        parts += [section(f'op = "{name}"', kind, 3) for name, kind in sorted(catalogue.items())]
    return "\n".join(parts)


def metrics() -> str:
    """The metrics of `[quality]`."""
    from edgewright.measure.metrics import METRICS

    rows = []
    for name, make in METRICS.items():
        metric = make()
        better = "higher" if metric.higher_is_better else "lower"
        rows.append(f"| `{name}` | {better} | {' '.join(prose(type(metric).__doc__).split())} |")
    head = (
        "# Metrics\n\nThe first name in `[quality] metrics` is the one budgets judge. `top-K` takes any K,"
        " `tar@far=RATE` any rate; `module:function` is your own (see the how-to). "
        "Every figure comes with its sample count and 95% interval.\n"
    )
    return "\n".join([head, "| name | better | |", "|---|---|---|", *rows]) + "\n"


def plugins(title: str, group: str, text: str) -> Callable[[], str]:
    """Returns a writer for one group of plugins."""

    def write() -> str:
        from edgewright.engine import registry

        parts = [f"# {title}\n\n{text}\n"]
        parts += [section(name, registry.load(group, name)) for name in registry.names(group)]
        return "\n".join(parts)

    return write


def errors() -> str:
    """The tree of errors with exit codes."""
    from edgewright import errors as tree

    kinds = [k for _, k in inspect.getmembers(tree, inspect.isclass) if issubclass(k, tree.EdgewrightError)]
    kinds.sort(key=lambda k: (k.exit_code, len(k.__mro__), k.__name__))
    rows = [f"| {k.exit_code} | `{k.__name__}` | {prose(k.__doc__).splitlines()[0]} |" for k in kinds]
    codes = (
        "| exit code | error | |\n|---|---|---|\n| 0 | | Done, and every target has an artifact inside the budget. |\n"
        "| 1 | | Done, and a target has none: the nearest one is packed. |\n"
    )
    head = "# Errors\n\nA message says what, where, expected and got; the hint names the fix.\n\n"
    return head + codes + "\n".join(rows) + "\n| 130 | | Interrupted; the same command goes on from there. |\n"


def api() -> str:
    """The public names of the package."""
    import edgewright

    parts = [f"# Python API\n\n{prose(edgewright.__doc__).splitlines()[0]}\n"]
    for name in edgewright.__all__:
        thing = getattr(edgewright, name)
        signature = (
            "" if inspect.isclass(thing) or not callable(thing) else str(inspect.signature(thing)).replace("'", "")
        )
        parts.append(f"## {name}\n\n`edgewright.{name}{signature}`\n\n{prose(thing.__doc__)}\n")
        if dataclasses.is_dataclass(thing):
            told = attributes(thing)  # type: ignore[arg-type]
            parts.append("".join(f"- `{key}`: {text}\n" for key, text in told.items()) or "\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "project-file": project_file,
    "data": data,
    "pipeline": pipeline,
    "metrics": metrics,
    "sources": plugins("Sources", "sources", "What `[model]` can name; the kind is found from the source."),
    "passes": plugins("Passes", "passes", "What changes a model; `[[recipes]]` can name them with these keys."),
    "targets": plugins("Targets", "targets", "`[[targets]]` names one by `name`; its other keys are listed here."),
    "errors": errors,
    "api": api,
}


def page(name: str) -> str:
    """Returns the text of one page."""
    return NOTE + re.sub(r"\n{3,}", "\n\n", PAGES[name]()).rstrip() + "\n"


def stale() -> list[str]:
    """Returns the pages that no longer fit the code."""
    return [n for n in PAGES if not (HERE / f"{n}.md").is_file() or (HERE / f"{n}.md").read_text() != page(n)]


def main() -> None:
    """Writes or checks every page."""
    if "--check" in sys.argv:
        if old := stale():
            raise SystemExit(f"out of date: {', '.join(old)}; run `make docs`")
        return
    HERE.mkdir(exist_ok=True)
    for name in PAGES:
        (HERE / f"{name}.md").write_text(page(name))


if __name__ == "__main__":
    main()
