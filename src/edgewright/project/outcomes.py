"""The outcomes of every test sample, written beside each bundle: what `edgewright diff` pairs later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewright.core.digest import Digest
    from edgewright.core.recipe import Study


def write_outcomes(
    study: Study, stored: Callable[[Digest], Path | None], data: Path, bundles: Mapping[str, Path]
) -> list[Path]:
    """Writes the outcomes of each winner beside its bundle.

    Args:
        study: The recorded search.
        stored: Digest -> its folder in the store, None when it was collected since.
        data: The project's `data.json`.
        bundles: Target -> its bundle.

    Returns:
        The files; none for a winner that was not scored.
    """
    from edgewright.data import open_data
    from edgewright.measure._outcomes import read_outcomes
    from edgewright.search.release import gather, records_file, write_records

    opened = open_data(data)
    made = []
    for target, bundle in bundles.items():
        winner = study.best(target)
        measured = winner.measurement
        split = "test" if measured is not None and measured.test is not None else "tune"
        digest = winner.evidence.get(f"{split}-outcomes")
        folder = None if digest is None else stored(digest)
        if measured is None or folder is None:
            continue
        figures = (measured.test or measured.tune).figures
        records = gather(target, winner.id, figures, study.labels, read_outcomes(folder), opened.dataset(split))
        write_records(records, records_file(bundle))
        made.append(records_file(bundle))
    return made
