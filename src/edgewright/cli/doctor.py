"""`edgewright doctor`: what is here, what is not and how to get it, and what is known to go wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgewright.engine.doctor import Diagnosis, EnvironmentState, MachineState, TargetState

NOTHING_USABLE = 3
_WIDTH, _WIDE = 14, 22


def doctor(
    strict: bool = typer.Option(False, "--strict", help="Exit code 3 for every problem, not only without any target."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show targets, runtimes, programs and this machine, and known problems. Exit code 3 without a target."""
    from edgewright.core.codec import encode
    from edgewright.engine.doctor import examine

    found = examine()
    if as_json:
        told = {**encode(found), "usable": found.usable, "problems": found.problems}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        for line in lines(found):
            typer.echo(line)
    raise typer.Exit(NOTHING_USABLE if not found.usable or (strict and found.problems) else 0)


def lines(found: Diagnosis) -> Iterable[str]:
    """Yields the diagnosis, line by line."""
    yield f"edgewright {found.edgewright}, Python {found.python}"
    yield from ("", "this machine", *_machine(found.machine))
    cache = found.cache
    yield f"  cache         {cache.folder}: {cache.bytes / 2**30:.1f} GB, {cache.free_bytes / 2**30:.0f} GB free"
    yield from ("", "targets", *(f"  {target_line(row)}" for row in found.targets))
    present = ", ".join(f"{row.name} {row.version}" for row in found.runtimes if row.version and row.name != "null")
    yield from ("", f"runtimes        {present or 'none'}", f"ONNX Runtime    {_providers(found)}")
    yield from ("", "environments of their own", *(f"  {_environment(row)}" for row in found.environments))
    yield from ("", "programs")
    for program in found.programs:
        state = f"{program.version or 'here'}  {program.path}" if program.path else f"missing: {program.install}"
        yield f"  {program.name:{_WIDTH}}{state}   (for {program.purpose})"
    yield from ("", *(f"problem: {problem}" for problem in found.problems))
    if not found.problems:
        yield "no problem known"


def target_line(row: TargetState) -> str:
    """Returns one target as one line."""
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items()) or "built in"
    where = f"   (compiles here, does not run here: {row.elsewhere})" if row.elsewhere else ""
    return f"{row.name:{_WIDTH}} {versions if row.installed else 'not installed: ' + row.install}{where}"


def _machine(found: MachineState) -> Iterable[str]:
    device = found.device
    yield f"  processor     {device.processor}, {device.machine}, {device.cores} cores, {device.system}"
    yield f"  memory        {device.memory_bytes / 2**30:.1f} GB"
    yield f"  instructions  {', '.join(device.isa) or 'none that matter'}"
    fast = {"INT8 sums in 32 bits": found.integer_dot, "float16": found.half, "bfloat16": found.bfloat}
    yield "  arithmetic    " + ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in fast.items())
    heat = f"{found.temperature_c:.0f} °C" if found.temperature_c is not None else "no sensor"
    yield f"  state         governor {found.governor or 'not told'}, {heat}, load {found.load:.1f}"
    yield from (f"  note          {remark}" for remark in found.remarks)


def _providers(found: Diagnosis) -> str:
    asked = found.providers
    return asked.problem or (f"{asked.version}: {', '.join(asked.names)}" if asked.version else "not installed")


def _environment(row: EnvironmentState) -> str:
    if not row.install:
        return f"{row.name:{_WIDE}} ready, {row.megabytes} MB   (for {row.purpose})"
    state = "not installed" if row.state == "absent" else row.state
    line = row.install if row.fits else "its files do not install on this kind of machine"
    return f"{row.name:{_WIDE}} {state}: {line}   (for {row.purpose})"
