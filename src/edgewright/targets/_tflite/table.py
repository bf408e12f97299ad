"""Every rule by the operator it is for."""

from __future__ import annotations

from collections.abc import Mapping

from edgewright.targets._tflite.lowering.apply import Rule as LoweringRule
from edgewright.targets._tflite.rules import Rules, arithmetic, matrix, shaping, spatial

RULES: Rules = {**spatial.RULES, **arithmetic.RULES, **matrix.RULES, **shaping.RULES}
LOWERINGS: Mapping[str, LoweringRule] = {}
