"""The command line: registers the verbs and turns errors into a message, a hint and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import typer

from edgewright.errors import EdgewrightError, UsageError

INTERRUPTED = 130

app = typer.Typer(
    name="edgewright",
    help="Takes a trained model to edge devices, and proves every step.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _register() -> None:
    from edgewright.cli import (
        amend,
        apply,
        batch,
        bundle,
        cache,
        check,
        ci,
        compare,
        diff,
        distill,
        doctor,
        measure,
        model,
        optimize,
        plan,
        run,
        targets,
        toolchain,
        trace,
        tune,
        why,
    )

    app.command("optimize")(optimize.optimize)
    app.command("distill")(distill.distill)
    app.command("tune")(tune.tune)
    app.command("diff")(diff.diff)
    app.add_typer(ci.app, name="ci", help="Continuous integration: a workflow that optimises, checks and compares.")
    app.command("apply")(apply.apply)
    app.command("amend")(amend.amend)
    app.command("compare")(compare.compare)
    app.command("why")(why.why)
    app.command("inspect")(model.inspect)
    app.command("check")(check.check)
    app.command("merge")(model.merge)
    app.command("pack")(bundle.pack)
    app.command("verify")(bundle.verify)
    app.command("run")(run.run)
    app.command("measure")(measure.measure)
    app.command("batch")(batch.batch)
    app.command("targets")(targets.targets)
    app.command("doctor")(doctor.doctor)
    app.add_typer(plan.app, name="plan", help="How a model is quantised: show, compare, plan anew.")
    app.add_typer(cache.app, name="cache", help="The folder of kept results.")
    app.add_typer(measure.lab_app, name="lab", help="The devices of a lab file.")
    app.add_typer(trace.app, name="trace", help="Traces of other tools in a report, and our profile for them.")
    app.add_typer(toolchain.app, name="toolchain", help="Environments of their own, e.g. for TensorFlow.")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    if version:
        import edgewright

        typer.echo(f"edgewright {edgewright.__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line and exits with its code."""
    _register()
    try:
        app(standalone_mode=True)
    except EdgewrightError as error:
        _show(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: finished steps are kept; run the same command again to go on", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        explained = _explained(error)
        if explained is None:
            raise
        _show(explained)
        sys.exit(explained.exit_code)


def _explained(error: OSError) -> EdgewrightError | None:
    """Returns what a failed access to a named file means to the reader; None for what only a developer can read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        from edgewright.store.files import full_disk

        return full_disk(Path(str(error.filename or Path.cwd())))
    if error.filename is None:
        return None
    reason = error.strerror or type(error).__name__
    return UsageError(f"{error.filename}: {reason}", hint="correct this path, or the permissions on it")


def _show(error: EdgewrightError) -> None:
    if "--json" in sys.argv:
        detail = {"error": type(error).__name__, "message": error.message, "hint": error.hint, "exit": error.exit_code}
        typer.echo(json.dumps(detail))
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"  fix: {error.hint}", err=True)
