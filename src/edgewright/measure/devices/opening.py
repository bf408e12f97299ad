"""Opens an artifact where a step was told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgewright.core.target import Runner, RunOptions
from edgewright.measure.devices.connection import connect
from edgewright.measure.devices.running import Remembering
from edgewright.runtimes import open_runner
from edgewright.runtimes._lease import lease

Progress = Callable[[float, str], None]


@contextmanager
def open_on(
    device: str,
    artifact: Path,
    options: RunOptions,
    *,
    exclusive: bool = False,
    progress: Progress = lambda fraction, note: None,
    kept: Path | None = None,
) -> Iterator[Runner]:
    """Opens an artifact on a device, or here.

    Args:
        device: Its address; empty for this machine.
        artifact: The folder, here.
        options: See `RunOptions`.
        exclusive: Hold the lease of the device.
        progress: Told what takes long.
        kept: Folder for outputs that came from a device: run again after a kill, those are not computed again.

    Raises:
        EdgewrightError: The device cannot be reached, or the artifact cannot be opened there.
    """
    with ExitStack() as stack:
        if not device:
            if exclusive:
                stack.enter_context(lease("local", progress))
            yield stack.enter_context(open_runner(artifact, options))
            return
        connection = stack.enter_context(connect(device, progress=progress))
        runner = stack.enter_context(connection.open_runner(artifact, options, exclusive=exclusive))
        yield runner if kept is None else Remembering(runner, kept)
