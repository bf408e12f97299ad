"""Finds plugins by name. Listing reads file names and entry points; nothing is imported until it is wanted.

A built-in plugin is a module of the group's package with a module-level `plugin`; its name is the module's with `-`
for `_`. Others announce themselves through the entry-point group `edgewright.<group>`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from functools import cache
from typing import Any, cast

import edgewright
from edgewright.core.codec import decode, encode, unknown_key
from edgewright.core.recipe import StepSpec
from edgewright.core.step import Step
from edgewright.errors import ConfigError

GROUPS = ("sources", "passes", "targets", "measure", "runtimes")


@cache
def names(group: str) -> tuple[str, ...]:
    """Returns the names of all plugins of `group`, built-in and third-party, sorted."""
    return tuple(sorted({*_built_in(group), *_entry_points(group)}))


def load(group: str, name: str) -> Any:
    """Imports one plugin and returns its class.

    Raises:
        ConfigError: Nobody provides it; the near name is suggested.
    """
    if name in _built_in(group):
        module = importlib.import_module(f"edgewright.{group}.{name.replace('-', '_')}")
        if hasattr(module, "plugin"):
            return module.plugin
    if name in _entry_points(group):
        return _entry_points(group)[name].load()
    hint = unknown_key(name, names(group), group).hint
    raise ConfigError(f'there is no "{name}" among the {group}', hint=hint.replace("known keys", "there are"))


def make(group: str, spec: StepSpec) -> Step:
    """Builds the step that `spec` describes, strictly.

    Raises:
        ConfigError: Unknown plugin, unknown field or wrong type.
    """
    return cast(Step, decode(load(group, spec.name), dict(spec.config), f"{group} {spec.name}"))


def describe(step: Step) -> StepSpec:
    """Returns the spec that `make` turns into an equal step."""
    return StepSpec(step.name, encode(step))


def _built_in(group: str) -> dict[str, str]:
    if group not in GROUPS:
        raise ConfigError(f"unknown plugin group {group!r}", hint=f"groups: {', '.join(GROUPS)}")
    found: dict[str, str] = {}
    for root in edgewright.__path__:
        for module in pkgutil.iter_modules([f"{root}/{group}"]):
            if not module.ispkg and not module.name.startswith("_") and _announces_plugin(root, group, module.name):
                found[module.name.replace("_", "-")] = module.name
    return found


@cache
def _announces_plugin(root: str, group: str, module: str) -> bool:
    with open(f"{root}/{group}/{module}.py", encoding="utf-8") as file:  # noqa: PTH123 - a Path costs an import here
        return any(line.startswith(("plugin =", "plugin:")) for line in file)


@cache
def _entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"edgewright.{group}")}
