"""The students that come with Edgewright: names, what they take and give, and who builds them. No PyTorch here."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.training.students import interface as seams
from edgewright.training.students.interface import Interface

if TYPE_CHECKING:
    from torch import nn

IMAGE, SERIES, TOKENS = "images", "features over time", "tokens"
CLASSES, FRAMES, BOXES, MAP = "classes", "classes per time step", "boxes", "a map of classes"
_TAKES: Mapping[str, Callable[[Interface], Any]] = {
    IMAGE: seams.picture,
    SERIES: seams.series,
    TOKENS: seams.tokens,
}
_GIVES: Mapping[str, Callable[[Interface], Any]] = {
    CLASSES: seams.classes,
    FRAMES: seams.frames,
    BOXES: seams.boxes,
    MAP: seams.segments,
}
TEACHERS_OWN = ("every-second-layer", "layers")
"""Students made of layers of a transformer that teaches."""
_NAME = re.compile(r"(?P<family>.+?)(-(?P<width>\d+(\.\d+)?))?")
_WIDTHS = (0.05, 8.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of student.

    Attributes:
        name: As one types it before the width, `mobilenetv3` of `mobilenetv3-0.5`.
        module: Of this package; its `build(interface, width, family)` makes the network.
        takes: One of `images`, `features over time`, `tokens`.
        gives: What it can give, one or two of `classes`, `classes per time step`, `boxes`, `a map of classes`.
        source: Where the architecture is from.
        activations: For who quantises it.
        example: The interface that the catalogue states figures for.
    """

    name: str
    module: str
    takes: str
    gives: tuple[str, ...]
    source: str
    activations: str
    example: Interface

    def problem(self, interface: Interface) -> str:
        """Returns why it does not fit between these tensors; empty where it does."""
        if _TAKES[self.takes](interface) is None:
            return f"takes {self.takes}"
        if not any(_GIVES[given](interface) for given in self.gives):
            return f"gives {' or '.join(self.gives)}"
        return ""


@dataclass(frozen=True, slots=True)
class Student:
    """A family at a width, as `mobilenetv3-0.5` names it."""

    family: Family
    width: float

    @property
    def name(self) -> str:
        return f"{self.family.name}-{self.width:g}"


def _between(shape: tuple[int, ...], *given: int, vocabulary: int = 0) -> Interface:
    dtype = "int64" if vocabulary else "float32"
    inputs = (TensorSpec("x", dtype, ("batch", *shape)),)
    return Interface(inputs, (TensorSpec("y", "float32", ("batch", *given)),), vocabulary=vocabulary)


_PHOTO = _between((3, 224, 224), 1000)
_SMALL = _between((3, 32, 32), 10)
_SPEECH = _between((49, 10, 1), 12)
_TEXT = _between((64,), 77, vocabulary=4000)

FAMILIES: tuple[Family, ...] = (
    Family("mobilenetv3", "mobilenetv3", IMAGE, (CLASSES,), "MobileNetV3-Small, Howard et al. 2019",
           "ReLU, HardSwish, HardSigmoid gates", _PHOTO),
    Family("mobilenetv3-large", "mobilenetv3", IMAGE, (CLASSES,), "MobileNetV3-Large, Howard et al. 2019",
           "ReLU, HardSwish, HardSigmoid gates", _PHOTO),
    Family("efficientnet-lite", "efficientnet_lite", IMAGE, (CLASSES,),
           "EfficientNet-Lite0, after Tan and Le 2019: no gates, no Swish", "ReLU6", _PHOTO),
    Family("resnet8", "resnet", IMAGE, (CLASSES,), "thin ResNet, He et al. 2015, section 4.2", "ReLU", _SMALL),
    Family("resnet14", "resnet", IMAGE, (CLASSES,), "thin ResNet, He et al. 2015, section 4.2", "ReLU", _SMALL),
    Family("resnet20", "resnet", IMAGE, (CLASSES,), "thin ResNet, He et al. 2015, section 4.2", "ReLU", _SMALL),
    Family("resnet18", "resnet", IMAGE, (CLASSES,), "ResNet-18, He et al. 2015, section 4.1", "ReLU", _PHOTO),
    Family("ds-cnn", "ds_cnn", IMAGE, (CLASSES,), "DS-CNN, Zhang et al. 2017; MLPerf Tiny", "ReLU", _SPEECH),
    Family("tcn", "tcn", SERIES, (CLASSES, FRAMES), "TCN, Bai et al. 2018", "ReLU", _SPEECH),
    Family("crnn", "crnn", SERIES, (CLASSES, FRAMES), "CRNN, Shi et al. 2015, with a GRU",
           "ReLU; the GRU's own stay float", _SPEECH),
    Family("tiny-transformer", "tiny_transformer", TOKENS, (CLASSES, FRAMES),
           "encoder of two pre-norm layers, Vaswani et al. 2017", "ReLU, Softmax, LayerNorm", _TEXT),
    Family("yolox", "yolox", IMAGE, (BOXES,), "YOLOX-nano, Ge et al. 2021, with ReLU6", "ReLU6, Sigmoid at the end",
           _between((3, 416, 416), 3549, 85)),
    Family("deeplab", "deeplab", IMAGE, (MAP,), "DeepLabV3+, Chen et al. 2018, on inverted residuals", "ReLU6",
           _between((3, 256, 256), 21, 256, 256)),
)  # fmt: skip


def listed(network: str) -> bool:
    """Says whether a name can only be one of the catalogue: no file, no function, no layers of the teacher."""
    suffix = network.rpartition(".")[2]
    return not (network in TEACHERS_OWN or ":" in network or "/" in network or ("." in network and suffix.isalpha()))


def find(name: str) -> Student:
    """Returns the student that a name stands for; without a width it is 1.

    Raises:
        ConfigError: There is no such family, or the width is out of reach; the near name is suggested.
    """
    families = {family.name: family for family in FAMILIES}
    if name in families:
        return Student(families[name], 1.0)
    match = _NAME.fullmatch(name)
    family = families.get(match["family"]) if match else None
    if match is None or family is None:
        wanted = match["family"] if match else name
        near = difflib.get_close_matches(wanted, families, n=1, cutoff=0.5)
        width = f"-{match['width']}" if match and match["width"] else "-0.5"
        hint = (
            f'did you mean "{near[0]}{width}"?' if near else f"one of {', '.join(families)}, with a width: resnet8-0.5"
        )
        raise ConfigError(f'there is no student "{name}"', hint=hint)
    student = Student(family, float(match["width"]))
    if not _WIDTHS[0] <= student.width <= _WIDTHS[1]:
        hint = f"a width from {_WIDTHS[0]} to {_WIDTHS[1]:g}"
        raise ConfigError(f'student "{name}": width {student.width:g}', hint=hint)
    return student


def fitting(interface: Interface) -> tuple[Family, ...]:
    """Returns the families that fit between the tensors of a teacher."""
    return tuple(family for family in FAMILIES if not family.problem(interface))


def build(student: Student, interface: Interface, seed: int = 0) -> nn.Module:
    """Builds a fresh student for a teacher's interface; the same seed gives the same weights.

    Args:
        student: From `find`.
        interface: Of the teacher.
        seed: Of the weights.

    Raises:
        ConfigError: It does not fit; the message says which students do.
    """
    problem = student.family.problem(interface)
    if problem:
        shown = "; ".join(map(str, (*interface.inputs, *interface.outputs)))
        names = ", ".join(family.name for family in fitting(interface))
        hint = (
            f"students that fit: {names}" if names else 'none of the catalogue fits: name your own as "module:factory"'
        )
        raise ConfigError(f'student "{student.name}" {problem}, the teacher has {shown}', hint=hint)
    import torch

    module = importlib.import_module(f"edgewright.training.students.{student.family.module}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = module.build(interface, student.width, student.family.name)
    return network.eval()
