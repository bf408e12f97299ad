"""The profile of a study as a trace for other tools."""

from __future__ import annotations

from pathlib import Path

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import Candidate, Study
from edgewright.errors import Corrupt, UsageError
from edgewright.report.traces import chrome_trace

STUDY = "study.json"


def export(output: Path, candidate: str = "") -> bytes:
    """Returns the time per operator of a study's candidates as a Chrome trace.

    Args:
        output: Output folder of a search.
        candidate: Id of one; the original and the winners without it.

    Raises:
        UsageError: There is no study or no such candidate, or none was profiled.
        Corrupt: The study cannot be read.
    """
    study = _study(output)
    chosen = _chosen(study, candidate)
    profiled = [each for each in chosen if each.operators]
    if not profiled:
        raise UsageError(
            f"no time per operator was measured of {', '.join(each.id for each in chosen) or 'any candidate'}",
            hint="the search profiles what it times; choose another with --candidate",
        )
    return chrome_trace({c.id: c.operators for c in profiled}, {c.id: c.placement for c in profiled})


def _study(output: Path) -> Study:
    try:
        return decode_stored(Study, (output / STUDY).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{output} holds no {STUDY}", hint="name the output folder of `edgewright optimize`") from None
    except ValueError as error:
        raise Corrupt(f"{output / STUDY}: {error}", hint="run `edgewright optimize` again") from error


def _chosen(study: Study, candidate: str) -> list[Candidate]:
    everything = {each.id: each for each in (study.reference, *study.candidates)}
    if not candidate:
        winners = [everything[key] for key in study.winners.values() if key in everything]
        return list({each.id: each for each in (study.reference, *winners)}.values())
    if candidate not in everything:
        raise UsageError(f'no candidate "{candidate}" in the study', hint=f"there are: {', '.join(everything)}")
    return [everything[candidate]]
