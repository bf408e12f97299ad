"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, Corrupt, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._litert_apart import Apart
from edgewright.runtimes._litert_artifact import ArtifactRunner
from edgewright.runtimes._litert_io import IO_KEY, SAME, Border
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require

DELEGATE_KEY = "xnnpack"
"""Session entry: `false` computes with LiteRT's own kernels instead of its XNNPACK delegate."""
_SWITCH = {"true": True, "false": False}


class LiteRt:
    """Opens a .tflite file; float and quantised ones, whose inputs and outputs may be scaled integers."""

    name: ClassVar[str] = "litert"
    distribution: ClassVar[str] = "ai-edge-litert"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`.

        Raises:
            ConfigError: An entry of the session is unknown.
        """
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    file = path / artifact.files[0]
    delegate = uses_delegate({**artifact.session, **options.session})
    interpreter = LiteRtRunner(file.read_bytes(), str(file), options.threads, delegate=delegate)
    apart = Apart(interpreter.content, interpreter.settings) if options.profile else None
    yield ArtifactRunner(artifact, interpreter, str(file), apart)


def uses_delegate(session: Mapping[str, str]) -> bool:
    """Returns whether a session asks for the XNNPACK delegate, as it does unless told otherwise.

    Raises:
        ConfigError: An entry is unknown, or neither `true` nor `false`.
    """
    unknown = set(session) - {DELEGATE_KEY, IO_KEY}
    wanted = session.get(DELEGATE_KEY, "true")
    if unknown or wanted not in _SWITCH:
        found = f'"{min(unknown)}"' if unknown else f'{DELEGATE_KEY} = "{wanted}"'
        raise ConfigError(f"LiteRT has no session entry {found}", hint=f'{DELEGATE_KEY} = "true" or "false"')
    return _SWITCH[wanted]


class LiteRtRunner:
    """An interpreter, taking and giving the tensors of the file as they are.

    Args:
        content: The .tflite file.
        where: Its path, for errors.
        threads: Of the interpreter.
        keep_tensors: Keep the values of inner tensors, computed by LiteRT's own kernels. Its default delegate
            (XNNPACK) joins operators and shows nothing of what is between them, so it is left out then.
        delegate: Let XNNPACK compute what it can.

    Raises:
        ToolchainMissing: LiteRT is not installed.
        Corrupt: It cannot read the file.
    """

    def __init__(
        self, content: bytes, where: str, threads: int = 1, *, keep_tensors: bool = False, delegate: bool = True
    ) -> None:
        module = require("ai_edge_litert.interpreter", "litert")
        self.content = content
        self.settings = interpreter_settings(module, threads, delegate=delegate and not keep_tensors)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._interpreter = module.Interpreter(
                    model_content=content, experimental_preserve_all_tensors=keep_tensors, **self.settings
                )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:400]
            raise Corrupt(f"{where}: LiteRT cannot open it: {text}", hint="convert the model again") from error
        self._takes = self._interpreter.get_input_details()
        self._gives = self._interpreter.get_output_details()
        self.inputs: tuple[TensorSpec, ...] = tuple(_spec(detail) for detail in self._takes)
        self.outputs: tuple[TensorSpec, ...] = tuple(_spec(detail) for detail in self._gives)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        check_inputs(self.inputs, inputs)
        arrays = [inputs[spec.name] for spec in self.inputs]
        self._resize(arrays)
        found = self.compute(arrays, [SAME] * len(arrays))
        return {spec.name: array for spec, array in zip(self.outputs, found, strict=True)}

    def compute(self, arrays: Sequence[NDArray[Any]], borders: Sequence[Border]) -> list[NDArray[Any]]:
        """Runs the file once; what it remembers between runs (LSTM states) is cleared first.

        Args:
            arrays: In the order of the file's inputs, of the file's sizes.
            borders: How each stands to the file's tensor; one that is the file's own is set without another copy.

        Returns:
            In the order of the file's outputs, in the file's form, owned by the caller.

        Raises:
            StepFailed: LiteRT refuses them.
        """
        interpreter = self._interpreter
        try:
            interpreter.reset_all_variables()
            for detail, array, border in zip(self._takes, arrays, borders, strict=True):
                if border is SAME:
                    interpreter.set_tensor(detail["index"], array)
                else:
                    border.write(array, interpreter.tensor(detail["index"])())
            interpreter.invoke()
            return [interpreter.get_tensor(detail["index"]) for detail in self._gives]
        except (RuntimeError, ValueError) as error:
            raise StepFailed(f"LiteRT: {error}", hint="try the original model on the same input") from error

    def kept(self, numbers: Iterable[int]) -> dict[int, NDArray[Any]]:
        """Returns inner tensors of the last run, as stored, by their numbers in the file.

        Raises:
            ValueError: One was not kept.
        """
        return {number: np.array(self._interpreter.get_tensor(number)) for number in numbers}

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return ()

    def _resize(self, arrays: Sequence[NDArray[Any]]) -> None:
        fed = zip(self._takes, arrays, strict=True)
        changed = [(d["index"], a.shape) for d, a in fed if tuple(d["shape"]) != a.shape]
        for index, shape in changed:
            self._interpreter.resize_tensor_input(index, shape)
        if changed:
            self._interpreter.allocate_tensors()
            self._takes = self._interpreter.get_input_details()


def interpreter_settings(module: Any, threads: int, *, delegate: bool) -> dict[str, Any]:
    """Returns arguments of LiteRT's `Interpreter`."""
    kinds = module.OpResolverType
    resolver = kinds.AUTO if delegate else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return {"num_threads": threads, "experimental_op_resolver_type": resolver}


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    name, signature = str(detail["name"]), detail["shape_signature"]
    sizes = [int(n) for n in (signature if len(signature) else detail["shape"])]
    shape = tuple(n if n >= 0 else f"{name}.{axis}" for axis, n in enumerate(sizes))
    return TensorSpec(name, np.dtype(detail["dtype"]).name, shape)


plugin = LiteRt
