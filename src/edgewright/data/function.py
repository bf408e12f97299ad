"""Reader `function`: samples from the user's own code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgewright.core.data import Sample
from edgewright.data.code import load_function
from edgewright.data.source import Indices, Source, positions
from edgewright.errors import DataError, EdgewrightError


@dataclass(frozen=True, slots=True)
class Function:
    """Samples from `module:function(**args)`.

    The function returns a list, a data set or any iterable of `Sample`s or (value, label) pairs. It is called again
    for every pass, so a generator will do; it must give the same samples each time. `version` is part of the cache
    key: raise it when the same code and arguments give other samples, because a file elsewhere changed.

    Attributes:
        function: `module:function`; the module lies beside the project file or is installed.
        args: Keyword arguments.
        version: See above.
        rows: Slices such as `0:100`; empty for all.
        shuffle: Seed of a permutation before slicing; the data set must then offer `[index]`, as lists do.
    """

    reader: ClassVar[str] = "function"
    function: str
    args: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    rows: str = ""
    shuffle: int | None = None

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        source = _FunctionSource(self, load_function(self.function, root, "function"))
        return source.opened()

    def files(self, root: Path) -> Iterator[Path]:
        return iter(())


class _FunctionSource:
    """Calls the function for every pass."""

    def __init__(self, reader: Function, function: Callable[..., Any]) -> None:
        self.reader, self.function = reader, function
        self.has_labels = False
        self.labels: tuple[str, ...] = ()
        self.chosen: Indices | None = None

    def opened(self) -> _FunctionSource:
        """Counts the samples and looks at the first."""
        items = self._items()
        total = len(items) if hasattr(items, "__len__") else sum(1 for _ in self._guarded(items))
        self.chosen = positions(total, self.reader.rows, self.reader.shuffle, self.reader.function)
        self.has_labels = next(iter(self)).label is not None
        return self

    def __len__(self) -> int:
        return 0 if self.chosen is None else len(self.chosen)

    def __iter__(self) -> Iterator[Sample]:
        assert self.chosen is not None
        items = self._items()
        if hasattr(items, "__getitem__"):
            for index in self.chosen.tolist():
                yield self._sample(index, self._call(items.__getitem__, index))
            return
        if self.reader.shuffle is not None:
            message = f"{self.reader.function}: shuffle needs data that can be indexed, got {type(items).__name__}"
            raise DataError(message, hint="return a list or an object with __len__ and __getitem__, or leave it out")
        wanted, last = set(self.chosen.tolist()), int(self.chosen.max())
        for index, item in enumerate(self._guarded(items)):
            if index in wanted:
                yield self._sample(index, item)
            if index == last:
                return

    def thinned(self, step: int) -> _FunctionSource:
        thinner = copy.copy(self)
        thinner.chosen = None if self.chosen is None else self.chosen[::step]
        return thinner

    def origin(self) -> dict[str, Indices]:
        return {}

    def _items(self) -> Any:
        items = self._call(self.function, **self.reader.args)
        if not hasattr(items, "__iter__") and not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
            message = f"{self.reader.function} returned {type(items).__name__}"
            raise DataError(message, hint="return an iterable of Sample or of (value, label) pairs")
        return items

    def _guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        iterator = iter(items)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                raise self._raised(error) from error
            yield item

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise self._raised(error) from error

    def _raised(self, error: Exception) -> EdgewrightError:
        if isinstance(error, EdgewrightError):
            return error
        message = f"{self.reader.function} raised {type(error).__name__}: {error}"
        return DataError(message, hint="correct the function or its args in [data]")

    def _sample(self, index: int, item: Any) -> Sample:
        if isinstance(item, Sample):
            return item
        if isinstance(item, tuple) and len(item) == 2:
            return Sample(str(index), item[0], _plain(item[1]))
        message = f"{self.reader.function}: item {index} is {type(item).__name__}, not a Sample or a pair"
        raise DataError(message, hint="yield edgewright.core.data.Sample(id, value, label) or (value, label)")


def _plain(label: Any) -> Any:
    """Turns a number of NumPy or another array library into a Python number."""
    return label.item() if hasattr(label, "item") and getattr(label, "size", 1) == 1 else label
