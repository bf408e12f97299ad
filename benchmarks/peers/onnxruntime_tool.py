"""`onnxruntime.quantization`: static with every calibration method and both integer types, and dynamic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import Bench
from numpy.typing import NDArray

from edgewright.core.recipe import StepSpec
from edgewright.graph.load import MODEL_FILE

TOOL = "onnxruntime.quantization"


def add(bench: Bench) -> None:
    """Adds U8S8 and S8S8 per channel by MinMax, Entropy, Percentile and Distribution, U8S8 with 7 bits, and dynamic."""
    from onnxruntime.quantization import CalibrationMethod, QuantType

    types = {"U8S8": QuantType.QUInt8, "S8S8": QuantType.QInt8}
    for method in ("MinMax", "Entropy", "Percentile", "Distribution"):
        for name, activation in types.items():
            options = {"activation_type": activation, "calibrate_method": CalibrationMethod[method]}
            bench.attempt(TOOL, f"{name} {method}", "onnxruntime", lambda o=options: _static(bench, o))
    for method in ("MinMax", "Percentile"):
        options = {"activation_type": QuantType.QUInt8, "calibrate_method": CalibrationMethod[method]}
        bench.attempt(TOOL, f"U8S8 reduce_range {method}", "onnxruntime", lambda o=options: _static(bench, o, True))
    bench.attempt(TOOL, "dynamic", "onnxruntime", lambda: _dynamic(bench))


def _static(bench: Bench, options: dict[str, Any], reduce_range: bool = False) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = bench.feeds()

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.feeds, None)

    hub = bench.folder("ort-static")
    source, made = str(bench.model / MODEL_FILE), str(hub / MODEL_FILE)
    fixed = {"per_channel": True, "weight_type": QuantType.QInt8, "reduce_range": reduce_range}
    quantize_static(source, made, Reader(), **fixed, **options)
    return bench.step("targets", StepSpec("onnxruntime"), model=hub)


def _dynamic(bench: Bench) -> Path:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    hub = bench.folder("ort-dynamic")
    plain = onnx.load(bench.model / MODEL_FILE)
    del plain.graph.value_info[:]  # stale shapes make it fail
    source = hub.parent / "plain.onnx"
    onnx.save(plain, source)
    quantize_dynamic(
        source, hub / MODEL_FILE, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True
    )
    return bench.step("targets", StepSpec("onnxruntime"), model=hub)
