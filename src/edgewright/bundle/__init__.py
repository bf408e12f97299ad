"""The archive that ships: manifest, pack, verify, model card, SBOM.

`pack` turns a recorded study into one `.ewb` file per target, `open_bundle` checks and unpacks one from anywhere,
`verify` re-runs its golden pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewright.bundle.open import Bundle, open_bundle
    from edgewright.bundle.packing import pack
    from edgewright.bundle.verifying import VerifyReport, verify

__all__ = ["Bundle", "VerifyReport", "open_bundle", "pack", "verify"]

_HOMES = {
    "Bundle": "open",
    "VerifyReport": "verifying",
    "open_bundle": "open",
    "pack": "packing",
    "verify": "verifying",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: the device half must not pay for packing."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
