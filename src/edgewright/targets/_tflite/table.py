"""Every rule by the operator it is for."""

from __future__ import annotations

from collections.abc import Mapping

from edgewright.targets._tflite.lowering import arithmetic as plain_arithmetic
from edgewright.targets._tflite.lowering import expanding, focus, layers, normalising, recurrent
from edgewright.targets._tflite.lowering import gathering as plain_gathering
from edgewright.targets._tflite.lowering import matrix as plain_matrix
from edgewright.targets._tflite.lowering import reduce as plain_reduce
from edgewright.targets._tflite.lowering import spatial as plain_spatial
from edgewright.targets._tflite.lowering.apply import Rule as LoweringRule
from edgewright.targets._tflite.rules import (
    Rules,
    arithmetic,
    blocks,
    compare,
    functions,
    gathering,
    matrix,
    padding,
    pools,
    reduce,
    resize,
    shaping,
    spatial,
    transposed,
)

RULES: Rules = {
    **spatial.RULES,
    **transposed.RULES,
    **pools.RULES,
    **padding.RULES,
    **resize.RULES,
    **blocks.RULES,
    **arithmetic.RULES,
    **compare.RULES,
    **functions.RULES,
    **gathering.RULES,
    **matrix.RULES,
    **reduce.RULES,
    **shaping.RULES,
}
LOWERINGS: Mapping[str, LoweringRule] = {
    **plain_arithmetic.RULES,
    **plain_gathering.RULES,
    **plain_matrix.RULES,
    **plain_reduce.RULES,
    **recurrent.RULES,
    **layers.RULES,
    **normalising.RULES,
    **plain_spatial.RULES,
    **focus.RULES,
    **expanding.RULES,
}
