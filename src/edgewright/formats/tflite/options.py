"""Fields of the operators' option tables: index in the schema, `struct` letter, default."""

from __future__ import annotations

from typing import Any

from edgewright.formats.tflite.flat import Table

_Field = tuple[int, str, float]

_FUSED: dict[str, _Field] = {"activation": (0, "b", 0)}
_POOL: dict[str, _Field] = {
    "padding": (0, "b", 0),
    "stride_w": (1, "i", 0),
    "stride_h": (2, "i", 0),
    "filter_w": (3, "i", 0),
    "filter_h": (4, "i", 0),
    "activation": (5, "b", 0),
}
_CONV_3D: dict[str, _Field] = {
    "padding": (0, "b", 0),
    "stride_d": (1, "i", 0),
    "stride_w": (2, "i", 0),
    "stride_h": (3, "i", 0),
    "activation": (4, "b", 0),
    "dilation_d": (5, "i", 1),
    "dilation_w": (6, "i", 1),
    "dilation_h": (7, "i", 1),
}
_REDUCE: dict[str, _Field] = {"keep_dims": (0, "?", 0)}

FIELDS: dict[str, dict[str, _Field]] = {
    "CONV_2D": {
        "padding": (0, "b", 0),
        "stride_w": (1, "i", 0),
        "stride_h": (2, "i", 0),
        "activation": (3, "b", 0),
        "dilation_w": (4, "i", 1),
        "dilation_h": (5, "i", 1),
    },
    "DEPTHWISE_CONV_2D": {
        "padding": (0, "b", 0),
        "stride_w": (1, "i", 0),
        "stride_h": (2, "i", 0),
        "activation": (4, "b", 0),
        "dilation_w": (5, "i", 1),
        "dilation_h": (6, "i", 1),
    },
    "TRANSPOSE_CONV": {
        "padding": (0, "b", 0),
        "stride_w": (1, "i", 0),
        "stride_h": (2, "i", 0),
        "activation": (3, "b", 0),
    },
    "CONV_3D": _CONV_3D,
    "CONV_3D_TRANSPOSE": _CONV_3D,
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "FULLY_CONNECTED": {"activation": (0, "b", 0), "weights_format": (1, "b", 0), "keep_num_dims": (2, "?", 0)},
    "ADD": _FUSED,
    "SUB": _FUSED,
    "MUL": _FUSED,
    "DIV": _FUSED,
    "CONCATENATION": {"axis": (0, "i", 0), "activation": (1, "b", 0)},
    "SOFTMAX": {"beta": (0, "f", 0)},
    "LEAKY_RELU": {"alpha": (0, "f", 0)},
    "GELU": {"approximate": (0, "?", 0)},
    "MEAN": _REDUCE,
    "SUM": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "REDUCE_MIN": _REDUCE,
    "REDUCE_PROD": _REDUCE,
    "REDUCE_ANY": _REDUCE,
    "REDUCE_ALL": _REDUCE,
    "RESIZE_BILINEAR": {"align_corners": (2, "?", 0), "half_pixel": (3, "?", 0)},
    "RESIZE_NEAREST_NEIGHBOR": {"align_corners": (0, "?", 0), "half_pixel": (1, "?", 0)},
    "STRIDED_SLICE": {
        "begin_mask": (0, "i", 0),
        "end_mask": (1, "i", 0),
        "ellipsis_mask": (2, "i", 0),
        "new_axis_mask": (3, "i", 0),
        "shrink_axis_mask": (4, "i", 0),
        "offset": (5, "?", 0),
    },
    "SPLIT": {"count": (0, "i", 0)},
    "SPLIT_V": {"count": (0, "i", 0)},
    "PACK": {"count": (0, "i", 0), "axis": (1, "i", 0)},
    "UNPACK": {"count": (0, "i", 0), "axis": (1, "i", 0)},
    "GATHER": {"axis": (0, "i", 0), "batch_dims": (1, "i", 0)},
    "ONE_HOT": {"axis": (0, "i", 0)},
    "BATCH_MATMUL": {"adj_x": (0, "?", 0), "adj_y": (1, "?", 0)},
    "CUMSUM": {"exclusive": (0, "?", 0), "reverse": (1, "?", 0)},
    "REVERSE_SEQUENCE": {"time_axis": (0, "i", 0), "batch_axis": (1, "i", 0)},
    "L2_NORMALIZATION": _FUSED,
    "L2_POOL_2D": _POOL,
    "LOCAL_RESPONSE_NORMALIZATION": {
        "radius": (0, "i", 0),
        "bias": (1, "f", 0),
        "alpha": (2, "f", 0),
        "beta": (3, "f", 0),
    },
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {
        "activation": (0, "b", 0),
        "cell_clip": (1, "f", 0),
        "projection_clip": (2, "f", 0),
        "time_major": (3, "?", 0),
    },
    "BIDIRECTIONAL_SEQUENCE_LSTM": {
        "activation": (0, "b", 0),
        "cell_clip": (1, "f", 0),
        "projection_clip": (2, "f", 0),
        "merge": (3, "?", 0),
        "time_major": (4, "?", 1),
    },
    "UNIDIRECTIONAL_SEQUENCE_RNN": {"time_major": (0, "?", 0), "activation": (1, "b", 0)},
    "MIRROR_PAD": {"mode": (0, "b", 0)},
}


def read_options(operator: str, table: Table | None) -> dict[str, Any]:
    """Returns the options of one operator by name; defaults where the file does not say."""
    fields = FIELDS.get(operator, {})
    if table is None:
        return {name: default for name, (_, _, default) in fields.items()}
    return {name: table.scalar(*field) for name, field in fields.items()}
