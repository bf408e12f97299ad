"""Metrics by name: each is a per-sample contribution and a way to reduce any multiset of them to the figure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from edgewright.core.data import Metric
from edgewright.data import load_function
from edgewright.errors import ConfigError
from edgewright.measure.metrics.agreement import Agreement, changed
from edgewright.measure.metrics.classification import MacroF1, RocAuc, TopK
from edgewright.measure.metrics.custom import CustomMetric
from edgewright.measure.metrics.detection import map50, map50_95
from edgewright.measure.metrics.regression import Cosine, MeanAbsoluteError
from edgewright.measure.metrics.segmentation import MeanIoU
from edgewright.measure.metrics.verification import EqualErrorRate, TrueAcceptRate

__all__ = ["METRICS", "Agreement", "changed", "make_metric", "make_metrics"]

METRICS: dict[str, Callable[[], Metric]] = {
    "top-1": lambda: TopK(1),
    "top-5": lambda: TopK(5),
    "f1": MacroF1,
    "roc-auc": RocAuc,
    "eer": EqualErrorRate,
    "tar@far": TrueAcceptRate,
    "map50": map50,
    "map50-95": map50_95,
    "miou": MeanIoU,
    "mae": MeanAbsoluteError,
    "cosine": Cosine,
    "agreement": Agreement,
}
_TOP = re.compile(r"top-([1-9][0-9]*)")
_TAR = re.compile(r"tar@far=(.+)")


def make_metrics(names: Sequence[str], root: Path) -> tuple[Metric, ...]:
    """Returns the metrics called `names`, in that order.

    Raises:
        ConfigError: See `make_metric`; or no name is given.
    """
    if not names:
        raise ConfigError("no metric is named", hint='name at least one, e.g. [quality] metrics = ["top-1"]')
    return tuple(make_metric(name, root) for name in names)


def make_metric(name: str, root: Path) -> Metric:
    """Returns one metric.

    Args:
        name: A key of `METRICS`, `top-K`, `tar@far=RATE` or `module:function`.
        root: Folder in which the module is looked for first.

    Raises:
        ConfigError: There is no such metric, module or function; the near name is suggested.
    """
    if name in METRICS:
        return METRICS[name]()
    if top := _TOP.fullmatch(name):
        return TopK(int(top[1]))
    if tar := _TAR.fullmatch(name):
        return TrueAcceptRate(_rate(name, tar[1]))
    if ":" in name:
        function = load_function(name, root, f"metric {name}")
        return CustomMetric(name, function, bool(getattr(function, "higher_is_better", True)))
    near = difflib.get_close_matches(name, METRICS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"metrics: {', '.join(METRICS)}, or module:function"
    raise ConfigError(f'unknown metric "{name}"', hint=hint)


def _rate(name: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 < rate < 1.0:
        raise ConfigError(f'metric "{name}": the false accept rate is not between 0 and 1', hint='e.g. "tar@far=0.001"')
    return rate
