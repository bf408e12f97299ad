"""`edgewright pack` and `edgewright verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from edgewright.bundle.verifying import VerifyReport
    from edgewright.core.recipe import Study


def pack(
    study: Annotated[Path, typer.Argument(help="study.json, or the folder that holds it.")] = Path("edgewright-out"),
    target: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="Target to pack, repeatable; by default every target that has a winner."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="Folder for the bundles; by default beside the study.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Packs the winner of each target into one reproducible archive."""
    from edgewright.bundle import pack as pack_target
    from edgewright.engine import toolchain
    from edgewright.store.cache import Cache
    from edgewright.store.files import digest_file

    toolchain.need("packing a bundle", "build")
    file = study / "study.json" if study.is_dir() else study
    recorded = _read_study(file)
    folder = out or file.parent
    cache = Cache.default()
    made = [
        (name, pack_target(recorded, name, cache.output_path, folder)) for name in target or sorted(recorded.winners)
    ]
    if as_json:
        found: list[dict[str, Any]] = [
            {"target": name, "bundle": str(path), "bytes": path.stat().st_size, "digest": digest_file(path)}
            for name, path in made
        ]
        _print_json({"bundles": found})
        return
    for name, path in made:
        typer.echo(f"{name}: {path} ({path.stat().st_size} bytes)")


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle, an .ewb file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Checks every digest of a bundle and re-runs its golden pairs."""
    from edgewright.bundle import verify as verify_bundle
    from edgewright.core.codec import encode

    report = verify_bundle(bundle)
    if as_json:
        _print_json({**encode(report), "ok": report.ok})
    else:
        typer.echo(_told(report))
    report.require()


def _read_study(file: Path) -> Study:
    from edgewright.core.codec import decode_stored
    from edgewright.core.recipe import Study
    from edgewright.errors import Corrupt, UsageError

    try:
        return decode_stored(Study, file.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(
            f"{file}: no such study", hint="run `edgewright optimize` first, or give its folder"
        ) from error
    except ValueError as error:
        raise Corrupt(f"{file}: not a study: {error}", hint="run `edgewright optimize` again") from error


def _told(report: VerifyReport) -> str:
    lines = [f"{report.bundle}: {report.files} files as promised, {report.runtime}"]
    if len(report.variants) > 1:
        lines += [f"  {name}: for {kind}" for name, kind in report.variants.items()]
        lines.append(f"  this machine runs {report.variant}")
    lines += [f"  native code, runs with the caller's rights: {name} ({kind})" for name, kind in report.native.items()]
    lines += [
        f"  {'ok  ' if pair.ok else 'FAIL'} {pair.input}: difference {pair.difference:.3g}, allowed {pair.tolerance:g}"
        for pair in report.pairs
    ]
    return "\n".join(lines)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))
