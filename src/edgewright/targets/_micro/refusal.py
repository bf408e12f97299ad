"""Says before anything is quantised, compiled or built why a model will not run on a board."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.targets._micro.boards import Board
from edgewright.targets._micro.fit import Fit
from edgewright.targets._micro.foresee import Foreseen, foresee

LARGEST = 32 << 20
"""Bytes; the flash of boards with external memory ends below."""


def refusals(model: ir.Model, batch: int, board: Board | None, reserve_kb: int) -> Iterator[str]:
    """Yields one sentence per reason: operators without a kernel, and a board too small for the int8 form.

    Args:
        model: Float or quantised.
        batch: Size of a free batch axis.
        board: To hold the model against, or None.
        reserve_kb: RAM kept for the application.
    """
    weights = sum(
        value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None
    )
    if weights > LARGEST:
        yield f"its {weights / 1e6:.0f} million weights take as many bytes in int8; no microcontroller stores that"
        return
    try:
        found = foresee(model, batch)
    except StepFailed as error:
        yield error.message
        return
    if not isinstance(found, Foreseen):
        yield from found
    elif board is not None:
        problems = Fit(board, found.arena, found.flash, reserve_kb << 10).problems()
        yield from (f"even in int8 it {problem}" for problem in problems)
