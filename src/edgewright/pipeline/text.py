"""Operation on text: tokenise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError, ToolchainMissing
from edgewright.pipeline.item import Item


@dataclass(frozen=True, slots=True)
class Tokenise:
    """Turns a string into token ids and an attention mask.

    Attributes:
        file: A `tokenizer.json` of the Hugging Face `tokenizers` library.
        length: Every text is cut or filled to this many tokens; 0 keeps each text's own length.
        max_length: With `length` 0, the most tokens kept; 0 for no limit.
        ids: Name of the model input for the ids.
        mask: Name of the model input for the attention mask (1 for tokens, 0 for filling); empty for none.
        types: Name of the model input for the segment ids; empty for none.
        pad: Id of the filling.
        dtype: Type of all of them.
        masked: The model itself looks away from `pad`, so that texts may be filled up although it takes no mask.
    """

    op: ClassVar[str] = "tokenise"
    files: ClassVar[tuple[str, ...]] = ("file",)
    file: str
    length: int = 0
    max_length: int = 0
    ids: str = "input_ids"
    mask: str = "attention_mask"
    types: str = ""
    pad: int = 0
    dtype: str = "int64"
    masked: bool = False

    @property
    def padding(self) -> dict[str, float]:
        """Model input -> what fills it up where texts of several lengths share a run; empty where none may."""
        if not (self.mask or self.masked):
            return {}
        filling = {self.ids: float(self.pad), self.mask: 0.0, self.types: 0.0}
        return {name: value for name, value in filling.items() if name}

    def __post_init__(self) -> None:
        if self.dtype not in ("int64", "int32"):
            raise ValueError(f'dtype is "int64" or "int32", got "{self.dtype}"')
        if min(self.length, self.max_length) < 0:
            raise ValueError("length and max_length are at least 0")

    def __call__(self, item: Item) -> Item:
        if not isinstance(item.value, str):
            message = f"tokenise takes a string, got {type(item.value).__name__}"
            raise DataError(message, hint='use reader = "text", or give strings in the data')
        encoding = load_tokenizer(self.file, self.length or self.max_length).encode(item.value)
        named = {
            self.ids: self._filled(encoding.ids, self.pad),
            self.mask: self._filled(encoding.attention_mask, 0),
            self.types: self._filled(encoding.type_ids, 0),
        }
        return item.with_value({name: array for name, array in named.items() if name})

    def _filled(self, values: list[int], pad: int) -> NDArray[Any]:
        missing = max(self.length - len(values), 0)
        return np.asarray([*values, *[pad] * missing], self.dtype)


@lru_cache(maxsize=8)
def load_tokenizer(path: str, length: int) -> Any:
    """Returns a tokenizer that cuts after `length` tokens (0: never) and does not fill.

    Raises:
        ToolchainMissing: The library is not installed.
        DataError: The file is missing or is no tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        message = "splitting text into tokens needs the tokenizers library, which is not installed"
        raise ToolchainMissing(message, hint='pip install "edgewright[text]"') from error
    if not Path(path).is_file():
        raise DataError(f"there is no tokenizer file {path}", hint="correct `file` of the tokenise operation")
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        message = f"{path} is no tokenizer: {error}"
        raise DataError(message, hint="save it again with tokenizers' Tokenizer.save") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if length:
        tokenizer.enable_truncation(max_length=length)
    return tokenizer
