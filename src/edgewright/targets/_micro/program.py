"""The program that runs a model on a board: the model as a C array and a minimal C++ main."""

from __future__ import annotations

from pathlib import Path

from edgewright.formats.tflite.reader import TfliteGraph
from edgewright.targets._micro.kernels import KERNELS
from edgewright.targets._micro.layout import up

ARRAY = "g_edgewright_model"
_PER_LINE = 12
_MARGIN = 1.05
"""Of the arena over the prediction, as large as the error it is held to."""

_HEADER = """\
// Made by Edgewright. The model as constant data: {bytes} bytes, kept in flash.
#ifndef EDGEWRIGHT_MODEL_DATA_H_
#define EDGEWRIGHT_MODEL_DATA_H_

extern const unsigned char {array}[];
extern const unsigned int {array}_len;

#endif  // EDGEWRIGHT_MODEL_DATA_H_
"""

_DATA = """\
// Made by Edgewright.
#include "model_data.h"

alignas(16) const unsigned char {array}[] = {{
{lines}
}};
const unsigned int {array}_len = {bytes};
"""

_MAIN = """\
// Made by Edgewright: the smallest program that runs the model with TensorFlow Lite Micro.
#include <cstdint>

#include "model_data.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {{

// Predicted need: {predicted} bytes with the reference kernels; {margin} bytes of room are added. Optimised kernels
// (CMSIS-NN) ask for scratch memory of their own: build with -DEDGEWRIGHT_ARENA_SIZE=... if AllocateTensors fails.
#ifndef EDGEWRIGHT_ARENA_SIZE
#define EDGEWRIGHT_ARENA_SIZE {arena}
#endif
constexpr int kArenaSize = EDGEWRIGHT_ARENA_SIZE;
alignas(16) uint8_t g_arena[kArenaSize];

// Only these kernels are linked.
using Resolver = tflite::MicroMutableOpResolver<{count}>;

TfLiteStatus AddOperators(Resolver& resolver) {{
{adds}
  return kTfLiteOk;
}}

}}  // namespace

int main() {{
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel({array});
  if (model->version() != TFLITE_SCHEMA_VERSION) {{
    MicroPrintf("The model has schema version %d, expected %d", static_cast<int>(model->version()),
                TFLITE_SCHEMA_VERSION);
    return 1;
  }}
  Resolver resolver;
  if (AddOperators(resolver) != kTfLiteOk) {{
    return 2;
  }}
  tflite::MicroInterpreter interpreter(model, resolver, g_arena, kArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) {{
    MicroPrintf("The arena of %d bytes is too small", kArenaSize);
    return 3;
  }}
  // Fill the input here: {input}.
  TfLiteTensor* input = interpreter.input(0);
  for (size_t i = 0; i < input->bytes; ++i) {{
    input->data.raw[i] = 0;
  }}
  if (interpreter.Invoke() != kTfLiteOk) {{
    return 4;
  }}
  // Read the output here: {output}.
  const TfLiteTensor* output = interpreter.output(0);
  for (size_t i = 0; i < output->bytes; ++i) {{
    MicroPrintf("%d", static_cast<int>(output->data.raw[i]));
  }}
  return 0;
}}
"""


def operators(graph: TfliteGraph) -> tuple[str, ...]:
    """Returns the operators used, sorted, each once."""
    return tuple(sorted({op.op for op in graph.operators}))


def arena_bytes(predicted: int) -> int:
    """Returns the arena to reserve for a predicted need."""
    return up(int(predicted * _MARGIN), 16)


def write(graph: TfliteGraph, content: bytes, predicted: int, out: Path) -> tuple[str, ...]:
    """Writes `model_data.h`, `model_data.cc`, `main.cc` and `ops.txt`, and returns their names.

    Args:
        graph: The file.
        content: Its bytes.
        predicted: Arena for the board, in bytes.
        out: Folder.
    """
    files = {
        "model_data.h": _HEADER.format(array=ARRAY, bytes=len(content)),
        "model_data.cc": _DATA.format(array=ARRAY, bytes=len(content), lines=_array(content)),
        "main.cc": _main(graph, predicted),
        "ops.txt": "".join(f"{op} Add{KERNELS[op].add}\n" for op in operators(graph)),
    }
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return tuple(files)


def _array(content: bytes) -> str:
    rows = (content[at : at + _PER_LINE] for at in range(0, len(content), _PER_LINE))
    return "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)


def _main(graph: TfliteGraph, predicted: int) -> str:
    used = operators(graph)
    adds = "\n".join(f"  TF_LITE_ENSURE_STATUS(resolver.Add{KERNELS[op].add}());" for op in used)
    room = arena_bytes(predicted)
    return _MAIN.format(
        predicted=predicted,
        margin=room - predicted,
        arena=room,
        count=len(used),
        adds=adds,
        array=ARRAY,
        input=_described(graph, graph.inputs[0]),
        output=_described(graph, graph.outputs[0]),
    )


def _described(graph: TfliteGraph, number: int) -> str:
    tensor = graph.tensors[number]
    text = f"{tensor.dtype}{list(tensor.shape)}"
    if tensor.scale:
        text += f", real = {tensor.scale[0]:.9g} * (stored - {tensor.zero_point[0]})"
    return text.replace("- -", "+ ")
