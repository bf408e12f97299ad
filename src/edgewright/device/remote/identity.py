"""Which Edgewright this is, down to the sources: both sides of a measurement must run the same."""

from __future__ import annotations

from pathlib import Path

import edgewright
from edgewright.core.digest import Digest, digest_json
from edgewright.store.files import digest_file

PACKAGES = ("bundle", "core", "device", "pipeline", "runtimes", "store")
"""The device half."""


def source_digest() -> Digest:
    """Returns the digest of the sources of the device half: equal for a checkout and for what is installed from it."""
    root = Path(edgewright.__file__).parent
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return digest_json({file.relative_to(root).as_posix(): digest_file(file) for file in files})
