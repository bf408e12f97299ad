"""`edgewright measure` and `edgewright lab`: artifacts on real devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.measure.devices import Connection
    from edgewright.measure.devices.lab import Lab

lab_app = typer.Typer(no_args_is_help=True)


def measure(
    subject: Annotated[Path, typer.Argument(help="A bundle (.ewb) or an artifact folder.")],
    device: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="ssh://user@host, adb://serial, local, or a name of the lab; again for more devices."),
    ] = None,
    lab: Annotated[Optional[Path], typer.Option(help="Lab file that names devices.")] = None,  # noqa: UP045
    label: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="All devices of the lab with this label."),
    ] = None,
    reference: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="An artifact or bundle to compare with, timed in turn."),
    ] = None,
    project: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="edgewright.toml: real samples, and quality by its metrics."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the project.")] = "test",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Samples per run.")] = 1,
    seconds: Annotated[float, typer.Option(help="Longest time for timing in turn with the reference.")] = 20.0,
    profile: Annotated[bool, typer.Option("--profile", help="Measure every operator, too.")] = False,
    power_modes: Annotated[
        str, typer.Option(help="Power modes (nvpmodel) or governors to measure in, too: all, or 15W,MAXN.")
    ] = "",
    send: Annotated[
        bool, typer.Option("--send", help="First make an environment there, from wheels that are sent.")
    ] = False,
    wheels: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of wheels to send, where the index cannot be reached."),
    ] = None,
    html: Annotated[Optional[Path], typer.Option(help="Write a page.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a bundle or an artifact on real devices; a broken connection or a kill loses nothing."""
    from edgewright.core.codec import encode
    from edgewright.device.timing.timed import Question
    from edgewright.project.config import load_project
    from edgewright.project.measure import Job, bring, measure
    from edgewright.report.devices import devices_table

    devices = _devices(device or [], lab, label or [])
    loaded = load_project(project) if project else None
    job = Job(subject, Question(threads, batch, seconds), reference, loaded, split, profile, power_modes)
    if send or wheels:
        for each in devices:
            typer.echo(f"{each.address.title}: {bring(each, job, wheels)}", err=True)
    found, failed = measure(job, devices, progress=_told)
    if as_json:
        typer.echo(json.dumps({"measured": encode(found), "failed": encode(failed)}, ensure_ascii=False))
    elif found:
        devices_table(found)
    for one in failed:
        typer.echo(f"error: {one.message}\n  fix: {one.hint}", err=True)
    if html is not None and found:
        from edgewright.report.devices import devices_html
        from edgewright.store.files import write_atomic

        write_atomic(html, devices_html(found).encode())
        typer.echo(f"page: {html}", err=as_json)
    if failed or not all(each.ok for each in found):
        raise typer.Exit(failed[0].exit_code if failed else 5)


def _devices(addresses: list[str], file: Path | None, labels: list[str]) -> list[Connection]:
    from edgewright.errors import UsageError
    from edgewright.measure.devices import Connection, load_lab
    from edgewright.measure.devices.address import parse_address
    from edgewright.measure.devices.lab import address_of, device_of

    lab: Lab | None = load_lab(file) if file else None
    if labels and lab is None:
        raise UsageError("--label needs a lab file", hint="add --lab lab.toml")
    if lab is not None and not addresses and not labels:
        raise UsageError("no device was named", hint=f"--device with one of: {', '.join(d.name for d in lab.devices)}")
    named = addresses or ([] if labels else ["local"])
    found = [device_of(text, lab) if lab else parse_address(text) for text in named]
    found += [address_of(each) for each in (lab.chosen([], labels) if lab and labels else ())]
    return [Connection(each) for each in dict.fromkeys(found)]


def _told(device: str, share: float, note: str) -> None:
    """One line per change on a terminal; nothing in a log."""
    import sys

    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{device}: {note} {share:4.0%}", err=True, nl=share >= 1.0)


@lab_app.command("show")
def show(
    lab: Annotated[Path, typer.Option(help="Lab file.")] = Path("lab.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask every device of a lab file what it is."""
    from concurrent.futures import ThreadPoolExecutor

    from edgewright.measure.devices import load_lab
    from edgewright.project.measure import answers_of

    devices = load_lab(lab).devices
    with ThreadPoolExecutor(max_workers=max(1, len(devices))) as pool:
        found = list(pool.map(answers_of, devices))
    if as_json:
        typer.echo(json.dumps({"devices": found}, ensure_ascii=False))
        return
    for answer in found:
        typer.echo(f"{answer['name']}: {answer['told']}")
