"""One Runner per runtime; its framework is imported when an artifact is opened.

A runtime is one module named after it, with a module-level `plugin`; third parties register a class under the
entry-point group `edgewright.runtimes`.
"""

from __future__ import annotations

from edgewright.runtimes._open import find_runtime, load_artifact, open_runner, read_artifact

__all__ = ["find_runtime", "load_artifact", "open_runner", "read_artifact"]
