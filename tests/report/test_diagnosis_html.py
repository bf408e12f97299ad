"""The page of a diagnosis."""

from __future__ import annotations

from edgewright.core.parity import PRECISION, Diagnosis, Suspect
from edgewright.report.diagnosis_html import diagnosis_html, left, share

SUSPECT = Suspect(PRECISION, "dead range", "<script>", "relu1", 0.9, "98% is unused", "edgewright apply a -o 'b&c'")


def test_the_page_shows_stages_suspects_and_fixes_as_text() -> None:
    page = diagnosis_html(Diagnosis(PRECISION, (SUSPECT,), {PRECISION: 3.2}), "model.onnx", "int8")
    assert "dead range at &lt;script&gt;" in page
    assert "<script>" not in page
    assert "3.2 dB" in page
    assert "b&amp;c" in page


def test_nothing_lost_is_said() -> None:
    page = diagnosis_html(Diagnosis("", (), {PRECISION: 30.0}), "model.onnx", "int8")
    assert "Nothing was lost" in page


def test_decibels_for_a_reader() -> None:
    assert [left(d) for d in (200.0, -60.0, 12.34)] == ["all of it", "nothing", "12.3 dB"]
    assert [share(d) for d in (-5.0, 30.0, 90.0)] == [0.0, 50.0, 100.0]
