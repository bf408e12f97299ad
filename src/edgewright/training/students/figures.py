"""Parameters and multiply-accumulates of the catalogue, counted on the networks themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewright.training.students.catalogue import FAMILIES, Family, Student, build

WIDTHS = (0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Figures:
    """One student at one width, between the tensors of its family's example.

    Attributes:
        name: Of the student.
        takes: The example's input.
        gives: The example's output.
        parameters: That are trained.
        macs: Multiply-accumulates for one sample, in convolutions and matrix products.
    """

    name: str
    takes: str
    gives: str
    parameters: int
    macs: int


def figures(families: Sequence[Family] = FAMILIES, widths: Sequence[float] = WIDTHS) -> tuple[Figures, ...]:
    """Builds every student and counts."""
    return tuple(figures_of(Student(family, width)) for family in families for width in widths)


def figures_of(student: Student) -> Figures:
    """Builds one student for the example of its family and counts; nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    interface = student.family.example
    spec = interface.inputs[0]
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = build(student, interface)
        network(torch.zeros((1, *(int(size) for size in spec.shape[1:])), dtype=getattr(torch, spec.dtype)))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    shown = [" x ".join(map(str, each.shape[1:])) for each in (spec, interface.outputs[0])]
    return Figures(student.name, shown[0], shown[1], parameters, counter.get_total_flops() // 2)
