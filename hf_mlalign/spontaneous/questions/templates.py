"""Templates of question-translation rows: wording by task and by the language of the instruction."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import read_small
from hf_mlalign.data.languages import known_code, language_name

BUNDLED = Path(__file__).with_name("question_translation.yaml")
GENERAL = "general"
BY_TASK = "task"
FIELDS = {"prompt": {"question", "instruction"}, "completion": {"translation"}, "instruction": {"source", "target"}}


@dataclass(frozen=True)
class Template:
    """Wording of one task.

    Attributes:
        prompt: with {question} and, where there is an instruction, {instruction}.
        completion: with {translation}.
        instructions: ISO 639-1 → sentence with {source} and {target}, the names of the two languages.
    """

    name: str
    prompt: str
    completion: str
    instructions: Mapping[str, str]

    def prompt_for(self, question: str, source: str, target: str, language: str) -> str:
        """The prompt that asks, in `language`, to translate `question` from `source` to `target` (ISO 639-1)."""
        return self.prompt.format(question=question, instruction=self.instruction(source, target, language))

    def instruction(self, source: str, target: str, language: str) -> str:
        """The instruction in `language`, in English where there is no such wording."""
        language = language if language in self.instructions else "en"
        names = {"source": language_name(source, language), "target": language_name(target, language)}
        return self.instructions[language].format(**names)


class Templates:
    """Templates by task.

    Args:
        templates: a YAML or JSON file, or such a mapping: task → {prompt, instruction, completion}; see
            `hf_mlalign/spontaneous/questions/question_translation.yaml`. `None`: that file.
        choice: "general" (the authors' line, for every task, *authors' script*), "task" (that of the row's task, else
            "general"), or the name of one template for all rows.
    Raises:
        DataError: unreadable file, unknown choice, a missing or unknown placeholder.

    Attributes:
        digest: of the entries, whatever file they come from.
    """

    def __init__(self, templates: str | Path | Mapping[str, Any] | None = None, choice: str = GENERAL):
        import yaml

        entries = templates
        if not isinstance(templates, Mapping):
            path = Path(templates or BUNDLED)
            try:
                entries = yaml.safe_load(read_small(path, "templates"))
            except OSError as error:
                raise DataError(f"templates: cannot read {str(path)!r}: {error.strerror}.") from error
            except (yaml.YAMLError, RecursionError) as error:
                text = " ".join(str(error).split())[:200]
                raise DataError(f"templates: {str(path)!r} is not valid YAML or JSON: {text}") from error
            if not isinstance(entries, Mapping) or not entries:
                raise DataError(f"templates: {str(path)!r} does not map task names to templates.")
        general = _instructions(GENERAL, entries.get(GENERAL, {}))
        self.by_name = {str(name): _template(str(name), entry, general) for name, entry in entries.items()}
        if not isinstance(choice, str) or (choice != BY_TASK and choice not in self.by_name):
            raise DataError(f'template: no {choice!r}. There are: "task" and {listed(self.by_name)}.')
        self.digest = text_digest(json.dumps(entries, ensure_ascii=False, sort_keys=True, default=str))
        if choice == BY_TASK and GENERAL not in self.by_name:
            raise DataError('template: "task" needs a template called "general" for rows of other tasks.')
        self.choice = choice

    def of(self, task: str | None) -> Template:
        """The template of a row's task."""
        if self.choice != BY_TASK:
            return self.by_name[self.choice]
        return self.by_name.get((task or "").lower(), self.by_name[GENERAL])


def text_digest(text: str) -> str:
    """Digest (32 hexadecimal characters) of a text."""
    import xxhash

    return xxhash.xxh3_128(text.encode()).hexdigest()


def _template(name: str, entry: Any, general: Mapping[str, str]) -> Template:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("prompt"), str):
        raise DataError(f"templates, {name!r}: needs a text under 'prompt', e.g. '{{question}}\\n{{instruction}}\\n'.")
    if unknown := sorted(set(entry) - set(FIELDS)):
        raise DataError(f"templates, {name!r}: unknown {listed(unknown)}. Known: {listed(FIELDS)}.")
    instructions = {**general, **_instructions(name, entry)}
    prompt, completion = entry["prompt"], entry.get("completion", "{translation}")
    if "question" not in _placeholders(name, "prompt", prompt):
        raise DataError(f"templates, {name!r}: the prompt lacks {{question}}.")
    if "translation" not in _placeholders(name, "completion", completion):
        raise DataError(f"templates, {name!r}: the completion lacks {{translation}}.")
    if "instruction" in _placeholders(name, "prompt", prompt) and "en" not in instructions:
        raise DataError(f"templates, {name!r}: no English instruction. Add one under instruction: en.")
    return Template(name, prompt, completion, instructions)


def _instructions(name: str, entry: Any) -> dict[str, str]:
    given = entry.get("instruction", {}) if isinstance(entry, Mapping) else {}
    given = {"en": given} if isinstance(given, str) else given
    if not isinstance(given, Mapping) or not all(isinstance(text, str) for text in given.values()):
        raise DataError(f"templates, {name!r}: instruction must be a text, or a mapping of languages to texts.")
    for text in given.values():
        _placeholders(name, "instruction", text)
    return {known_code(code, f"templates, {name!r}, instruction"): text for code, text in given.items()}


def _placeholders(name: str, part: str, text: Any) -> set[str]:
    try:
        found = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    except (ValueError, TypeError) as error:
        raise DataError(f"templates, {name!r}, {part}: {error}. Double a brace that is meant as such.") from error
    if unknown := sorted(found - FIELDS[part]):
        raise DataError(f"templates, {name!r}, {part}: unknown {{{unknown[0]}}}. Known: {listed(FIELDS[part])}.")
    return found
