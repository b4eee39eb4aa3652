"""Descriptions of classification tasks: fields, prompt template, labels per language; read from a small YAML file."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import read_small
from hf_mlalign.data.languages import known_code

FOLDER = Path(__file__).parent / "task_files"
_KEYS = ("name", "fields", "answer", "shots", "template", "labels", "separator", "gold_language", "codes")


@dataclass(frozen=True)
class Task:
    """A classification task in several languages.

    Attributes:
        name: short name.
        fields: columns of the texts that the template shows.
        answer: column of the right label: the label's text in the row's language or in English, a ClassLabel with such
            names, or one of `codes`.
        shots: few-shot examples per prompt.
        template: language → text with `{field}` placeholders and one `{label}`; key "*" serves every language without
            a template of its own. What follows `{label}` ends the label.
        labels: language → label texts, in one order; "en" is always there and names the classes.
        separator: what stands between the examples of a prompt ("\\n", *authors' script*).
        gold_language: the class of a question is read from its row in this language, where there is one.
        codes: the numbers that stand for the labels in the answer column, in the order of the labels; `None` (default):
            numbers are refused.
    """

    name: str
    fields: tuple[str, ...]
    answer: str
    shots: int
    template: Mapping[str, str]
    labels: Mapping[str, tuple[str, ...]]
    separator: str = "\n"
    gold_language: str | None = None
    codes: tuple[int, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: the English labels."""
        return self.labels["en"]

    def label_texts(self, language: str, labels_in: str = "question") -> tuple[str, ...]:
        """The label texts scored in `language`.

        Raises:
            DataError: the task has no labels in this language.
        """
        if labels_in == "english":
            return self.labels["en"]
        if language not in self.labels:
            raise DataError(
                f"task {self.name!r}: no labels in {language!r} (languages found: {listed(self.labels)}). Add them to "
                "the task's YAML, leave the language out, or use --labels-in english (labels_in='english')."
            )
        return self.labels[language]

    def parts(self, language: str) -> tuple[str, str]:
        """The template before `{label}`, and what ends the label: the template's rest, or the separator if it has none.

        Raises:
            DataError: no template for this language.
        """
        before, after = self._halves(language)
        return before, after or self.separator

    def _halves(self, language: str) -> tuple[str, str]:
        text = self.template.get(language, self.template.get("*"))
        if text is None:
            raise DataError(
                f"task {self.name!r}: no template for {language!r} (found: {listed(self.template)}). Add one, or one "
                "for all languages under the key '*'."
            )
        before, after = text.split("{label}")
        return before, after.format()

    def prompt(self, language: str, shots: Sequence[tuple[Mapping[str, str], str]], texts: Mapping[str, str]) -> str:
        """Solved examples (texts and label each), then the question, up to where its label begins."""
        before, after = self._halves(language)
        solved = (before.format(**shown) + label + after + self.separator for shown, label in shots)
        return "".join(solved) + before.format(**texts)

    def describe(self) -> dict[str, Any]:
        """All attributes as plain JSON values."""
        plain = {k: getattr(self, k) for k in _KEYS}
        labels = {language: list(texts) for language, texts in self.labels.items()}
        codes = None if self.codes is None else list(self.codes)
        return plain | {"fields": list(self.fields), "template": dict(self.template), "labels": labels, "codes": codes}


def task_names() -> list[str]:
    """Names of the tasks that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_task(task: str | Path | Mapping[str, Any] | Task) -> Task:
    """Load a task by name ("emotion", "snli", "paws"), or from a YAML file or a mapping of the same keys.

    Raises:
        DataError: unknown name or file, or a description with a missing, unknown or contradictory entry.
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, Mapping):
        return _task(dict(task), f"task {task.get('name', '')!r}")
    name = str(task)
    if name in task_names():
        return _read_task(FOLDER / f"{name}.yaml")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise DataError(f"task: no {name!r}. Known: {listed(task_names())}; or name a .yaml file.")
    return _read_task(path)


def _read_task(path: Path) -> Task:
    import yaml

    try:
        content = yaml.load(read_small(path, "task"), Loader=yaml.BaseLoader)  # `no` stays a language
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"task: cannot read {str(path)!r}: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise DataError(f"task: {str(path)!r} holds no keys. Expected: {listed(_KEYS)}.")
    return _task({"name": path.stem, **content}, f"task {path.name!r}")


def _task(given: dict[str, Any], where: str) -> Task:
    missing = [k for k in ("name", "fields", "answer", "template", "labels") if not given.get(k)]
    unknown = [str(k) for k in given if k not in _KEYS]
    if missing or unknown:
        raise DataError(f"{where}: missing keys: {listed(missing)}; unknown keys: {listed(unknown)}. "
                        f"Known: {listed(_KEYS)}.")  # fmt: skip
    template = given["template"]
    template = {"*": template} if isinstance(template, str) else template
    fields = [given["fields"]] if isinstance(given["fields"], str) else given["fields"]
    labels = _by_language(given["labels"], f"{where}: labels", "lists of texts")
    template = _by_language(template, f"{where}: template", "texts", also="*")
    gold, shots, codes = given.get("gold_language"), given.get("shots", 0), given.get("codes")
    if not str(shots).isdecimal():
        raise DataError(f"{where}: shots is {shots!r}; give a whole number from 0.")
    if codes is not None:
        texts = [str(code) for code in codes] if isinstance(codes, (list, tuple)) else []
        if not texts or not all(code.removeprefix("-").isdecimal() for code in texts):
            raise DataError(f"{where}: codes is {codes!r}; give a list of whole numbers, one per label, e.g. [1, 0].")
        codes = tuple(map(int, texts))
    task = Task(
        _text(given["name"], f"{where}: name"), _texts(fields, f"{where}: fields"),
        _text(given["answer"], f"{where}: answer"), int(str(shots)),
        {k: _text(text, f"{where}: template, {k!r}") for k, text in template.items()},
        {k: _texts(texts, f"{where}: labels, {k!r}") for k, texts in labels.items()},
        _text(given.get("separator", "\n"), f"{where}: separator", blank=True),
        known_code(gold, f"{where}, gold_language") if gold else None, codes,
    )  # fmt: skip
    _check(task, where)
    return task


def _text(value: Any, where: str, blank: bool = False) -> str:
    if not isinstance(value, str) or not (blank or value.strip()):
        raise DataError(f"{where}: {value!r} is not a text. Give one text.")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{where}: {value!r} is not a list. Give a list of texts, e.g. [first, second].")
    return tuple(_text(text, where) for text in value)


def _by_language(value: Any, where: str, kind: str, also: str | None = None) -> dict[str, Any]:
    """Language code (or `also`) → value; two keys of one language are refused."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: {value!r} is not a mapping. Give {kind} by language, e.g. under 'en'.")
    found: dict[str, Any] = {}
    for key, content in value.items():
        code = key if key == also else known_code(key, where)
        if code in found:
            raise DataError(f"{where}: {key!r} is another key for {code!r}. Keep one of them.")
        found[code] = content
    return found


def _check(task: Task, where: str) -> None:
    bad = [field for field in task.fields if field == "label" or field.isdecimal() or set(field) & set("{}[].!:")]
    if bad or not task.fields or len(set(task.fields)) < len(task.fields):
        raise DataError(f"{where}: fields: {listed(bad or task.fields)}. Give different names, none of them 'label' or "
                        "a number, without any of {}[].!:.")  # fmt: skip
    if task.answer in task.fields:
        raise DataError(f"{where}: answer: {task.answer!r} is a field too, so prompts would show the right label. Name "
                        "the column of the right label, and leave it out of the fields.")  # fmt: skip
    if "en" not in task.labels:
        raise DataError(f"{where}: labels: no English ones ('en'), which name the classes. Add them.")
    size = len(task.classes)
    if size < 2:
        raise DataError(f"{where}: labels, 'en': {size} label. Give two or more.")
    for language, texts in task.labels.items():
        if len(texts) != size or not all(text.strip() for text in texts):
            raise DataError(f"{where}: labels, {language!r}: {listed(texts)}. Give {size} texts, in the order of 'en'.")
    if task.codes is not None and (len(task.codes) != size or len(set(task.codes)) < size):
        raise DataError(f"{where}: codes: {listed(map(str, task.codes))}. Give {size} different numbers, in the order "
                        "of the labels.")  # fmt: skip
    for language, text in task.template.items():
        at = f"{where}: template, {language!r}"
        try:
            parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
        except ValueError as error:
            raise DataError(f"{at}: {error}. Write {{{{ and }}}} for literal braces.") from error
        names = [name for _, name, _, _ in parts]
        if text.count("{label}") != 1 or names[-1:] != ["label"]:
            raise DataError(f"{at}: {{label}} must occur once, after all fields.")
        formatted = [name for _, name, spec, how in parts if spec or how]
        if formatted:
            raise DataError(f"{at}: {formatted[0]!r} has a format or conversion. Write {{{formatted[0]}}} alone.")
        unknown = [name for name in names[:-1] if name not in task.fields]
        if unknown:
            raise DataError(f"{at}: unknown fields {listed(unknown)}. The task's fields: {listed(task.fields)}.")
        if not names[:-1]:
            raise DataError(f"{at}: shows none of the fields {listed(task.fields)}.")
