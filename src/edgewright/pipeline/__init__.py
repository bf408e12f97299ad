"""Declarative pre- and post-processing: the same code on the builder and on the device.

```
raw value -> Preprocess (decode, resize, ..., mfcc, tokenise) -> Prepared -> model
          -> outputs -> Postprocess (softmax, top-k, yolo, smooth, ...) -> Decision
```
An operation is a frozen dataclass found by its `op` name; its fields are the keys of its table. Images travel as
RGB, height x width x channels, until `channel-order` or `layout` say otherwise.
"""

from edgewright.pipeline.postprocess import Postprocess
from edgewright.pipeline.preprocess import Preprocess

__all__ = ["Postprocess", "Preprocess"]
