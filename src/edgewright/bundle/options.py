"""Another recommendation for running a bundle, written into a new bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgewright.bundle.archive import write
from edgewright.bundle.open import MANIFEST, Bundle
from edgewright.core.bundle import Options
from edgewright.core.codec import encode_json


def with_options(bundle: Bundle, options: Options, out: Path) -> Path:
    """Writes a bundle that differs from `bundle` in its options alone.

    Args:
        bundle: Opened, every digest checked.
        options: What the new one recommends.
        out: The new file; may be the path of the old one.

    Raises:
        OutOfSpace: The disk is full.
    """
    contents: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.manifest.files}
    contents[MANIFEST] = encode_json(replace(bundle.manifest, options=options))
    write(out, contents)
    return out
