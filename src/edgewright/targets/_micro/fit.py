"""Does it fit a board? A pure decision, with the figures and the tensors that make the peak."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.targets._micro.arena import Prediction
from edgewright.targets._micro.boards import KIB, Board
from edgewright.targets._micro.flash import Flash
from edgewright.targets._micro.planner import peak

PROGRAM_RAM = 6 * KIB
"""Stack, the interpreter's own objects and what start-up keeps; estimated. An application needs more: `reserve_kb`."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model needs beside what a board has.

    Attributes:
        board: The board.
        arena: Predicted for it.
        flash: Estimated.
        reserve: RAM kept for the rest of the application, in bytes.
    """

    board: Board
    arena: Prediction
    flash: Flash
    reserve: int = 0

    @property
    def ram(self) -> int:
        """Bytes of RAM needed."""
        return self.arena.total + PROGRAM_RAM + self.reserve

    def problems(self) -> tuple[str, ...]:
        """Returns one sentence per memory that is too small; empty when it fits."""
        found = []
        if self.ram > self.board.ram_bytes:
            found.append(
                f"does not fit {self.board.title}: needs {_kb(self.ram)} of RAM (arena {_kb(self.arena.total)} "
                f"predicted), the board has {_kb(self.board.ram_bytes)}; {self._peak()}"
            )
        if self.flash.total > self.board.flash_bytes:
            code = self.flash.total - self.flash.model
            found.append(
                f"does not fit {self.board.title}: needs {_kb(self.flash.total)} of flash (model "
                f"{_kb(self.flash.model)}, code about {_kb(code)}), the board has {_kb(self.board.flash_bytes)}"
            )
        return tuple(found)

    def _peak(self) -> str:
        step, alive = peak(self.arena.buffers)
        most = ", ".join(f'"{buffer.name}" {_kb(buffer.size)}' for buffer in alive[:_SHOWN])
        return f"at operator {max(step, 1)} it holds {most}" if most else "its bookkeeping alone is too large"


def _kb(size: int) -> str:
    return f"{size / KIB:.1f} KB"
