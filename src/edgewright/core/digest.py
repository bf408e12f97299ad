"""Canonical JSON and SHA-256 digests: the identity of everything Edgewright stores."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NewType

Digest = NewType("Digest", str)
"""`sha256:` followed by 64 hexadecimal digits."""


def canonical_json(value: Any) -> bytes:
    """Encodes `value` as JSON with sorted keys, no spaces and no NaN: equal values give equal bytes.

    Raises:
        ValueError: `value` holds NaN or an infinity.
        TypeError: `value` holds something JSON has no word for.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode()


def digest_bytes(data: bytes) -> Digest:
    """Returns the digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_json(value: Any) -> Digest:
    """Returns the digest of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value))
