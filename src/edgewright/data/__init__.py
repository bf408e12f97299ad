"""Data sets read from files, streamed, split and checked.

`data.json` (a `DataSpec`) says what there is; `open_data` opens it; nothing is read before it is asked for. The
project calls `check_data` and `calibration_warnings` once; every step that needs samples opens the same file again.
"""

from edgewright.data.checks import check_data
from edgewright.data.code import code_digest, load_function
from edgewright.data.digest import data_digest
from edgewright.data.doubts import calibration_warnings
from edgewright.data.opened import Data, Split, open_data, open_spec, save_spec
from edgewright.data.spec import DataSpec, data_spec, read_labels

__all__ = [
    "Data",
    "DataSpec",
    "Split",
    "calibration_warnings",
    "check_data",
    "code_digest",
    "data_digest",
    "data_spec",
    "load_function",
    "open_data",
    "open_spec",
    "read_labels",
    "save_spec",
]
