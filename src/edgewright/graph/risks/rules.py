"""Every rule as data: where it looks, why it matters, what to do instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgewright.graph.risks import activations, delegates, structure, weights
from edgewright.graph.risks.sight import Hit, Sight

FIXED_SIZES = ("litert", "micro", "executorch", "coreml", "tensorrt")
"""Targets whose artifacts have fixed sizes, or one profile for each."""
HALF = ("tensorrt", "coreml")
"""Targets that compute in float16 unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that works and costs.

    Attributes:
        name: For a reader and for `--ignore`.
        find: Yields where it applies.
        why: What it costs, one sentence.
        instead: What to do, one line.
        targets: Names of the targets it is about; empty for all.
        int8: Only about targets that quantise.
    """

    name: str
    find: Callable[[Sight], Iterator[Hit]]
    why: str
    instead: str
    targets: tuple[str, ...] = ()
    int8: bool = False

    def applies(self, sight: Sight) -> bool:
        """Says whether the rule is about this target."""
        return (not self.targets or sight.target in self.targets) and not (self.int8 and sight.scheme is None)


RULES: tuple[Rule, ...] = (
    Rule(
        "dynamic-axes",
        structure.dynamic_axes,
        "an axis without a size: the artifact has fixed sizes, and is slower or cannot be made without them",
        "declare the size in the model's inputs, or export one model per size",
        targets=FIXED_SIZES,
    ),
    Rule(
        "old-opset",
        structure.old_opset,
        "weights quantised per channel need opset 13; the model is raised, which rewrites some operators",
        "export with opset 17 or newer",
    ),
    Rule(
        "new-opset",
        structure.new_opset,
        "devices with an older runtime cannot load the file",
        "export with opset 17 to 21",
        targets=("onnxruntime", "openvino", "tensorrt"),
    ),
    Rule(
        "nms-in-graph",
        structure.suppression,
        "non-maximum suppression in the graph gives outputs of changing size and runs on the CPU in float",
        'end the model at boxes and scores and put { op = "nms" } into [[postprocess]]',
    ),
    Rule(
        "data-dependent",
        structure.data_dependent,
        "sorts, or gives as many elements as the data decides: accelerators hand it back to the CPU",
        "move it behind the model, into [[postprocess]], or use ArgMax or a mask of fixed size",
    ),
    Rule(
        "control-flow",
        structure.control_flow,
        "branches and loops are not fused, not quantised and not delegated",
        "unroll the loop, or choose the branch when exporting",
    ),
    Rule(
        "high-rank",
        structure.high_rank,
        "mobile kernels and delegates take at most four axes; the rest falls back or is refused",
        "reshape so that no tensor has more than four axes",
        targets=("litert", "micro", "executorch", "coreml"),
    ),
    Rule(
        "resize-mode",
        structure.resizes,
        "runtimes lack this interpolation or compute it differently",
        "nearest, or bilinear with half-pixel centres (align_corners = False)",
    ),
    Rule(
        "resize-float",
        structure.float_resizes,
        "interpolation between integers is computed in float, with conversions around it",
        "nearest upsampling, or a transposed convolution",
        int8=True,
    ),
    Rule(
        "boxes-and-scores",
        structure.mixed_joins,
        "one output joins bounded scores and unbounded boxes: one scale rounds the scores to zero, the classical 0 mAP",
        "return boxes and scores as two outputs; otherwise keep this Concat in float",
        int8=True,
    ),
    Rule(
        "float-island",
        structure.float_islands,
        "runs in float between integer operators, and is converted there and back",
        "an operator that the scheme takes, or keep its neighbours in float as well",
        int8=True,
    ),
    Rule(
        "float-products",
        structure.float_products,
        "operators with weights stay float, so INT8 gains less",
        "see `edgewright plan show` for the reason of each; weights-only INT8 still makes them smaller",
        int8=True,
    ),
    Rule(
        "silu",
        activations.silu,
        "x * sigmoid(x) keeps a small negative lobe that 8 bits over a wide range erase",
        "ReLU, ReLU6 or Hardswish before training; else calibrate with ranges = mse and watch the parity page",
        int8=True,
    ),
    Rule(
        "gelu",
        activations.gelu,
        "GELU has no integer kernel here",
        "ReLU or Hardswish before training",
        int8=True,
    ),
    Rule(
        "hard-swish",
        activations.hard_swish,
        "HardSwish has no integer kernel here",
        "ReLU6 before training, or a target that has one (LiteRT)",
        int8=True,
    ),
    Rule(
        "activation",
        activations.curves,
        "an activation without an integer kernel here",
        "ReLU, ReLU6, LeakyReLU, Sigmoid or Tanh",
        int8=True,
    ),
    Rule(
        "normalisation",
        activations.normalisations,
        "statistics of the data are computed in float: the layer is converted there and back",
        "BatchNorm, which folds into the convolution before it, where training allows it",
        int8=True,
    ),
    Rule(
        "batch-norm",
        activations.batch_norms,
        "this batch norm cannot be folded and costs a pass over the tensor",
        "put it directly behind a convolution or a linear layer that nothing else reads",
    ),
    Rule(
        "softmax-axis",
        activations.softmax_axes,
        "softmax over an inner axis needs transposes around it, or a slow kernel",
        "move the axis to the end before the softmax",
    ),
    Rule(
        "recurrent",
        activations.recurrent,
        "recurrent layers are not quantised statically and not delegated",
        "dynamic INT8 or weights-only for them, or temporal convolutions",
        int8=True,
    ),
    Rule(
        "attention",
        weights.two_activations,
        "a product of two activations stays float",
        "nothing to do where quality matters: the linear layers around it are quantised",
        int8=True,
    ),
    Rule(
        "delegate",
        delegates.outside,
        "falls out of the delegate: a border with copies on both sides, and a slow kernel between them",
        "replace it, or move it to the beginning or the end of the model",
    ),
    Rule(
        "narrow-groups",
        weights.narrow_groups,
        "grouped convolutions with few channels each have no fast kernel",
        "groups of at least 8 channels, or depthwise followed by pointwise",
    ),
    Rule(
        "depthwise",
        weights.depthwise,
        "little arithmetic per byte, and weights whose ranges differ between channels",
        "keep it in float, or equalise the weights (`equalise`); per-channel scales where the target has them",
        int8=True,
    ),
    Rule(
        "narrow-channels",
        weights.narrow_channels,
        "channels that are no multiple of 8 leave tensor cores idle, and INT8 and FP16 pad them",
        "a multiple of 8, better of 32",
        targets=("tensorrt",),
    ),
    Rule(
        "transposed-convolution",
        weights.transposed,
        "transposed convolutions have no integer kernel here",
        "nearest upsampling followed by a convolution",
        int8=True,
    ),
    Rule(
        "embedding",
        weights.embeddings,
        "a large table that INT8 of activations does not touch decides the size of the file",
        "weights-only INT8 or INT4 (`weights-only`), or a smaller vocabulary",
    ),
    Rule(
        "large-constant",
        weights.large_constants,
        "float16 ends at 65504",
        "a mask of -1e4 or of minus infinity instead",
        targets=HALF,
    ),
    Rule(
        "half-overflow",
        weights.overflowing,
        "its results easily leave the range of float16",
        "subtract the maximum first, or keep it in float32",
        targets=HALF,
    ),
    Rule(
        "scheme",
        structure.caution,
        "the scheme itself is risky on this processor",
        "measure it: `edgewright optimize` compares the schemes",
        int8=True,
    ),
)
