"""A step as one writes it on a command line: `static-int8(scheme=onnxruntime-u8s7, keep_float=[a, "b c"])`.

```
step   = name [ "(" [ field { "," field } ] ")" ]
field  = word "=" value | word                         a word alone means true
value  = number | true | false | none | word | "quoted" | "[" values "]" | "{" word "=" value, ... "}"
```
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgewright.core.recipe import StepSpec
from edgewright.errors import UsageError

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([(),=\[\]{}])|([^\s(),=\[\]{}"]+))')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_EXAMPLE = 'write it like static-int8(scheme=onnxruntime-u8s7, ranges=mse, keep_float=[stem, "a b"])'


def parse_step(text: str) -> StepSpec:
    """Reads one step; nothing in it is run as code.

    Raises:
        UsageError: It is not of that form; the message says where.
    """
    reader = _Reader(text)
    name = reader.word("the name of a step")
    fields = reader.fields(")") if reader.take("(") else {}
    reader.end()
    return StepSpec(name, fields)


def show_step(spec: StepSpec) -> str:
    """Returns the text that `parse_step` reads back."""
    fields = ", ".join(f"{key}={_shown(value)}" for key, value in spec.config.items())
    return f"{spec.name}({fields})" if fields else spec.name


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_shown(key)}={_shown(each)}' for key, each in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = re.fullmatch(r'[^\s(),=\[\]{}"]+', value) and value.lower() not in _WORDS and not _NUMBER.fullmatch(value)
    return value if plain else json.dumps(value)


@dataclass
class _Reader:
    text: str
    at: int = 0
    seen: list[str] = field(default_factory=list)

    def peek(self) -> tuple[str, str, int] | None:
        """Returns the kind and text of the next token and where it ends."""
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at :].strip():
                raise self.error("a closing quote")
            return None
        kind = ("quoted", "mark", "word")[(match.lastindex or 1) - 1]
        return kind, match.group(match.lastindex or 1), match.end()

    def take(self, mark: str) -> bool:
        token = self.peek()
        if token is None or token[:2] != ("mark", mark):
            return False
        self.at = token[2]
        return True

    def need(self, mark: str) -> None:
        if not self.take(mark):
            raise self.error(f'"{mark}"')

    def word(self, expected: str) -> str:
        token = self.peek()
        if token is None or token[0] == "mark":
            raise self.error(expected)
        self.at = token[2]
        return str(json.loads(token[1])) if token[0] == "quoted" else token[1]

    def end(self) -> None:
        if self.peek() is not None:
            raise self.error("nothing more")

    def fields(self, closing: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def one() -> None:
            name = self.word("the name of a field")
            if name in found:
                raise UsageError(f'"{self.text}": field "{name}" is given twice', hint="give it once")
            found[name] = self.value() if self.take("=") else True

        self.until(closing, one)
        return found

    def until(self, closing: str, one: Callable[[], None]) -> None:
        while not self.take(closing):
            one()
            if not self.take(","):
                self.need(closing)
                return

    def value(self) -> Any:
        if self.take("["):
            found: list[Any] = []
            self.until("]", lambda: found.append(self.value()))
            return found
        if self.take("{"):
            return self.fields("}")
        token = self.peek()
        text = self.word("a value")
        quoted = token is not None and token[0] == "quoted"
        return text if quoted else _plain(text)

    def error(self, expected: str) -> UsageError:
        found = self.text[self.at :].strip()[:20] or "the end"
        return UsageError(f'"{self.text}": expected {expected} at column {self.at + 1}, found {found}', hint=_EXAMPLE)


def _plain(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else number
