"""Makes an environment on a device that has nothing but Python: wheels are sent, and installed there offline.

```
ROOT/wheels/              every wheel that was ever sent
ROOT/envs/<key>/          an environment; `.whole` is written into it last
ROOT/env -> envs/<key>    the one in use
```
"""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgewright.device.remote.agent import ROOT
from edgewright.errors import ConnectionLost, StepFailed
from edgewright.measure.devices.address import Address
from edgewright.measure.devices.transports import ENVIRONMENT, bare_python, root_of, run_script
from edgewright.measure.devices.wheels import collect, described, digests_in, interpreter_of
from edgewright.store.files import digest_file

_ATTEMPTS = 5
_PRESENT = """
import hashlib, json, os, sys
found = {}
for name in sys.argv[1:]:
    if os.path.exists(name):
        found[name] = 'sha256:' + hashlib.sha256(open(name, 'rb').read()).hexdigest()
    elif os.path.exists(name + '.part'):
        found[name] = str(os.path.getsize(name + '.part'))
print(json.dumps(found))
"""

Progress = Callable[[float, str], None]


def bring_environment(
    address: Address, requirements: Sequence[str], given: Path | None = None, progress: Progress = lambda share, n: None
) -> str:
    """Makes an environment with this Edgewright on a device, and returns what is in it.

    Args:
        address: The device; Linux with Python 3.10 or later.
        requirements: What is needed beside Edgewright, e.g. `onnxruntime==1.31.1`.
        given: Folder of wheels, where the package index cannot be reached.
        progress: Told how far it is.

    Raises:
        ConnectionLost: The device cannot be reached.
        ToolchainMissing: It has no usable Python.
        StepFailed: A wheel cannot be had, or does not install.
    """
    python = interpreter_of(address)
    with tempfile.TemporaryDirectory(prefix="edgewright-wheels-") as folder:
        wheels = collect(Path(folder), python, requirements, given)
        digests = {wheel.name: str(digest_file(wheel)) for wheel in wheels}
        for index, wheel in enumerate(wheels):
            progress(index / len(wheels), f"sending {wheel.name}")
            _send(address, wheel, digests[wheel.name])
        progress(1.0, "installing")
        _install(address, wheels, hashlib.sha256("\n".join(sorted(digests.values())).encode()).hexdigest()[:16])
        return described(wheels)


def sent_python(address: Address) -> str:
    """Returns the path of the interpreter of the environment that was sent, for `Address.python`."""
    return f"{address.root or f'~/{ROOT}'}/{ENVIRONMENT}/bin/python"


def _send(address: Address, wheel: Path, digest: str) -> None:
    """Sends a file, from where an earlier attempt broke off."""
    folder, name = f"{root_of(address)}/wheels", shlex.quote(wheel.name)
    ask = f"mkdir -p {folder} && cd {folder} && exec {bare_python(address)} -c {shlex.quote(_PRESENT)} {name}"
    for attempt in range(_ATTEMPTS):
        try:
            found = digests_in(run_script(address, ask)).get(wheel.name, "0")
            if found == digest:
                return
            offset = int(found) if found.isdigit() and int(found) < wheel.stat().st_size else 0
            _append(address, wheel, offset, f"cd {folder} && rm -f {name}{'' if offset else f' {name}.part'}", name)
        except ConnectionLost:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(2.0**attempt)
    raise StepFailed(f"{address.title}: {wheel.name} did not arrive whole", hint="check the disk of the device")


def _append(address: Address, wheel: Path, offset: int, before: str, name: str) -> None:
    script = f"{before} && cat >> {name}.part && mv {name}.part {name}"
    if not offset:
        run_script(address, script, wheel)
        return
    with tempfile.NamedTemporaryFile() as rest, wheel.open("rb") as whole:
        whole.seek(offset)
        while piece := whole.read(1 << 20):
            rest.write(piece)
        rest.flush()
        run_script(address, script, Path(rest.name))


def _install(address: Address, wheels: Sequence[Path], key: str) -> None:
    pip = next(wheel.name for wheel in wheels if wheel.name.startswith("pip-"))
    named = " ".join(f"../wheels/{shlex.quote(wheel.name)}" for wheel in wheels if wheel.name != pip)
    install = f'"$E/bin/python" ../wheels/{pip}/pip install --quiet --disable-pip-version-check --no-index --no-deps'
    script = (
        f'set -e; R={root_of(address)}; mkdir -p "$R/envs"; cd "$R/envs"; E="$R/envs/{key}"; '
        f'if [ ! -e "$E/.whole" ]; then rm -rf "$E"; {bare_python(address)} -m venv --without-pip "$E"; '
        f'{install} {named}; touch "$E/.whole"; fi; ln -sfn "envs/{key}" "$R/{ENVIRONMENT}"'
    )
    try:
        run_script(address, script)
    except ConnectionLost as error:
        message = f"the environment could not be made: {error.message}"
        raise StepFailed(message, hint="it needs the standard library's venv: apt-get install python3-venv") from error
