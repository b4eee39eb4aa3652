"""Optional columns for modules of `evaluate`, which takes every declared feature as required."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from hf_mlalign.core.validation import is_missing


class OptionalColumns:
    """Mix-in before `evaluate.Metric` or `evaluate.Measurement`: fills in the columns that are not given.

    `OPTIONAL` maps each optional column to the value for "not given"; `None` and NaN inside such a column become that
    value, too. Columns in `IDS` may hold anything that can be written as text, e.g. numbers. This is not a subclass of
    `EvaluationModule`, because `evaluate` loads the first such class that it finds in a script.
    """

    OPTIONAL: ClassVar[Mapping[str, Any]] = {}
    IDS: ClassVar[tuple[str, ...]] = ("prompt_ids",)

    def compute(self, *, predictions=None, references=None, **kwargs):
        """Compute from the columns given here, or added before. Optional columns may be left out."""
        return super().compute(**self._columns(predictions, references, kwargs))

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Add a batch of rows. Optional columns may be left out."""
        super().add_batch(**self._columns(predictions, references, kwargs))

    def add(self, *, prediction=None, reference=None, **kwargs):
        """Add one row. Optional columns may be left out."""
        prediction = kwargs.pop("predictions", None) if prediction is None else prediction
        reference = kwargs.pop("references", None) if reference is None else reference
        given = {"prediction": prediction, "reference": reference, **kwargs}
        for name in self._special(given):
            key = name.removesuffix("s") if name in ("predictions", "references") else name
            given[key] = self._filled(name, [given.get(key)])[0]
        super().add(**{key: value for key, value in given.items() if value is not None})

    def _feature_names(self) -> list[str]:
        """All columns. `evaluate.combine` looks up each of them among those given: it gets only those that are there.

        A list of two feature sets would not do: any subset of the optional columns may be given.
        """
        names, caller = super()._feature_names(), sys._getframe(1)
        if caller.f_globals.get("__name__") != "evaluate.module" or caller.f_locals.get("self") is self:
            return names
        given = caller.f_locals.get("batch")
        return [name for name in names if name in given or name not in self.OPTIONAL] if given else names

    def _columns(self, predictions: Any, references: Any, others: dict) -> dict:
        given = {"predictions": predictions, "references": references, **others}
        given = {name: values for name, values in given.items() if values is not None}
        columns = [values for name, values in given.items() if name in self._feature_names()]
        if columns:
            for name in self._special(given):
                given[name] = self._filled(name, given.get(name, [None] * len(columns[0])))
        return given

    def _special(self, given: Mapping[str, Any]) -> list[str]:
        return [*self.OPTIONAL, *(name for name in self.IDS if name in given and name not in self.OPTIONAL)]

    def _filled(self, name: str, values: Any) -> Any:
        kind = getattr(getattr(values, "dtype", None), "kind", "")
        if kind in tuple("fiu") and name not in self.IDS:
            return values
        values, empty = values.tolist() if hasattr(values, "tolist") else values, self.OPTIONAL.get(name)
        return [empty if is_missing(v) else str(v) if name in self.IDS else v for v in values]
