"""Imports coremltools quickly and quietly."""

from __future__ import annotations

import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from edgewright.runtimes._require import require

EXTRA = "coreml"
_OTHERS = (
    *("executorch", "libsvm", "sklearn", "tensorflow", "torchao"),
    *("torchaudio", "torchvision", "transformers", "xgboost"),
)
"""Frameworks whose converters coremltools loads along where it finds them, with a warning for each that is newer than
the one it was tested with: 10 seconds instead of 1.6. None of them has a part in what is done with it here."""
_LOGGER = "coremltools"


def require_coremltools() -> Any:
    """Imports coremltools without the frameworks it does not need here.

    Its warnings at import are about those, about the version of PyTorch (our tests say whether it works), and, away
    from macOS, about the parts that predict.

    Raises:
        ToolchainMissing: It is not installed.
    """
    if sys.modules.get("coremltools") is not None:
        return sys.modules["coremltools"]
    with _hidden(_OTHERS), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return require("coremltools", EXTRA)


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what coremltools prints, logs below the level of an error, and draws as progress bars.

    What fails raises, with the message that is printed.
    """
    logger = logging.getLogger(_LOGGER)
    before = logger.level
    logger.setLevel(logging.ERROR)
    bars = _without_bars()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
        for bar, given in bars:
            bar.__init__ = given


def _without_bars() -> list[tuple[Any, Any]]:
    """Draws no progress bars of tqdm, which coremltools gives no switch for; returns how they were made before."""
    try:
        bar = importlib.import_module("tqdm.std").tqdm
    except ImportError:
        return []
    given = bar.__init__

    def made(self: Any, *args: Any, **options: Any) -> None:
        given(self, *args, **{**options, "disable": True})

    bar.__init__ = made
    return [(bar, given)]


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    saved = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(saved)
