"""What a language model is asked and how its verdict is read: templates, fences round all that others wrote, a code."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.core.files import read_small
from hf_mlalign.core.validation import clean_text
from hf_mlalign.data.languages import language_name
from hf_mlalign.generation.requests import Message

TEMPLATES = Path(__file__).with_name("templates")
OWN = "this template"
SPEAKERS = ("user", "assistant", "system")
"""Roles that the prompt names; any other is only a message."""
CODE_LENGTH = 16
CONTROL = re.compile(
    r"<(?=[|｜]|/?(?:s|bos|eos|pad|unk|think|tool_call|im_start|im_end|(?:start|end)_of_turn)>)|(?<=[|｜])>|\[(?=/?INST)",
    re.IGNORECASE,
)
"""Where the control tokens of common chat templates begin or end: `<|im_end|>`, `</s>`, `[INST]`, `<end_of_turn>`, …"""
REPLY_FORMAT = (
    "Reply with one JSON object and nothing else, in this form:\n"
    '{{"explanation": "<your explanation>", "code": "{code}", "verdict": <whole number from 1 to 5>}}'
)

GRADES = 5
SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string"},
        "code": {"type": "string"},
        "verdict": {"type": "integer", "enum": list(range(1, GRADES + 1))},
    },
    "required": ["explanation", "code", "verdict"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}
"""One schema for all comparisons, so that a server prepares it once."""
_GAP = r"""[\s"'`*:=,;.]{0,20}"""
_GRADE = rf"([1-{GRADES}])(?:\.0)?"
WORDS = re.compile(
    r"""(?:^[\s"'`*{#>-]{0,20}|[{,]\s{0,20}["'])"""
    rf"(?:code{_GAP}([0-9a-f]{{16}}){_GAP}verdict{_GAP}{_GRADE}|verdict{_GAP}{_GRADE}{_GAP}code{_GAP}([0-9a-f]{{16}}))"
    r"""[\s"'`*.)}\]]{0,20}\Z""",
    re.IGNORECASE | re.MULTILINE,
)
"""A code and a verdict side by side at the end of a reply: on a line of their own, or as fields of a broken object."""


class JudgeTemplate:
    """A Jinja2 template of the judge's prompt, rendered in a sandbox.

    A template sees `conversation`, `answer_1`, `answer_2` and `reference` (or `None`), each already between fences;
    `language` (an English name, or ""), `code` and `reply_format`. It may extend templates beside it and those of this
    package. `digest` (16 hexadecimal digits) is that of its source and of all it extends or includes.

    Args:
        name: "general", "multilingual", "culture", or the path of a file of your own.
    Raises:
        DataError: no such template, a mistake in it, or it leaves out a text the judge needs.
    """

    def __init__(self, name: str | Path = "general"):
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.name = str(name)
        path = TEMPLATES / f"{name}.j2" if self.name in template_names() else Path(name)
        if not path.is_file():
            raise DataError(f"template: no file {self.name!r}, and none of {listed(template_names())}.")

        def beside(name: str) -> str | None:
            other = path.parent / name
            inside = other.resolve().is_relative_to(path.parent.resolve()) and other.resolve() != path.resolve()
            return other.read_text(encoding="utf-8") if inside and other.is_file() else None

        # the template itself is OWN; what it extends or includes is looked for beside it, then in the package
        own = jinja2.FunctionLoader(lambda name: read_small(path, "template") if name == OWN else None)
        loader = jinja2.ChoiceLoader([own, jinja2.FunctionLoader(beside), jinja2.FileSystemLoader(TEMPLATES)])
        environment = ImmutableSandboxedEnvironment(loader=loader, undefined=jinja2.StrictUndefined)
        try:
            self.digest = _template_digest(environment, path)
            self._template = environment.get_template(OWN)
        except (jinja2.TemplateError, UnicodeDecodeError) as error:
            raise DataError(f"template: {self.name!r} cannot be read: {error}.") from error
        needed = {name: f"probe-{name}" for name in ("conversation", "answer_1", "answer_2", "reply_format")}
        text = self.render(**needed, reference=None, language="", code="probe-code")
        missing = [name for name, probe in needed.items() if text.count(probe) != 1]
        if missing:
            raise DataError(f"template: {self.name!r} must show {listed(missing)} exactly once.")

    def render(self, **values: Any) -> str:
        """The prompt; `DataError` for a mistake in the template."""
        try:
            return self._template.render(**values)
        except Exception as error:
            raise DataError(f"template: {self.name!r} fails: {type(error).__name__}: {error}.") from error


def _template_digest(environment: Any, path: Path) -> str:
    """Digest of the sources of a template and of all it extends, includes or imports; of its folder's if names vary."""
    import jinja2
    from jinja2.meta import find_referenced_templates

    waiting, known = [OWN], {"reply_format": REPLY_FORMAT}
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        try:
            known[name] = environment.loader.get_source(environment, name)[0]
        except jinja2.TemplateNotFound:
            known[name] = ""
        for other in find_referenced_templates(environment.parse(known[name])):
            waiting += [other] if other else sorted(file.name for file in path.parent.glob("*.j2"))
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def template_names() -> list[str]:
    """The templates of this package."""
    return sorted(path.stem for path in TEMPLATES.glob("*.j2"))


def judge_messages(
    template: JudgeTemplate,
    turns: Sequence[Message],
    first: str,
    second: str,
    language: str = "",
    reference: str | None = None,
    salt: str = "0",
) -> tuple[tuple[Message, ...], str]:
    """The chat that puts one comparison to a language model, and the code its verdict must carry.

    The code is an HMAC of all texts under `salt`: the same comparison always gets the same code, and no text can
    contain its own, for it would change with the text.
    """
    texts = [[turn["role"], turn["content"]] for turn in turns], first, second, language, reference
    code = make_code(json.dumps(texts, ensure_ascii=False), salt)
    values = {
        "conversation": "\n\n".join(
            fenced(f"{turn['role']} message" if turn["role"] in SPEAKERS else "message", turn["content"], code)
            for turn in turns
        ),
        "answer_1": fenced("answer 1", first, code),
        "answer_2": fenced("answer 2", second, code),
        "reference": fenced("reference answer", reference, code) if reference else None,
        "language": language_name(language) if language else "",
        "code": code,
        "reply_format": REPLY_FORMAT.format(code=code),
    }
    return ({"role": "user", "content": template.render(**values)},), code


def make_code(text: str, salt: str) -> str:
    """16 hexadecimal digits: an HMAC-SHA256 of the text."""
    data = text.encode("utf-8", "surrogatepass")
    return hmac.new(salt.encode(), data, hashlib.sha256).hexdigest()[:CODE_LENGTH]


def fenced(label: str, text: str, code: str) -> str:
    """The text between two lines that carry the code, its control tokens broken."""
    return f"[begin {label} {code}]\n{defused(clean_text(text))}\n[end {label} {code}]"


def defused(text: str) -> str:
    """The text with a zero-width space inside whatever a server may read as a control token of its chat template."""
    return CONTROL.sub(lambda match: "\u200b>" if match[0] == ">" else match[0] + "\u200b", text)


# --- reading the verdict ----------------------------------------------------------------------------------------------


def read_verdict(reply: str, code: str, finish_reason: str = "stop") -> tuple[int | None, str]:
    """The grade 1 … 5 a reply gives, or `None` and the reason why none can be read.

    A grade counts only together with the comparison's code, which no judged text can hold; so a verdict that the judge
    merely quotes is not mistaken for its own. The last JSON object with the code is the verdict, whatever its
    explanation or the prose before it quotes; without one, it is a code and a verdict that end the reply. Thoughts that
    open the reply, between <think> tags, do not count.
    """
    text = reply.strip()
    thought = text.startswith("<think>")
    if thought:
        text = text.partition("</think>")[2].strip()
    try:  # one JSON object, fences aside
        grades = _grade(json.loads(re.sub(r"^```\w*", "", text).removesuffix("```"), strict=False), code)
    except (ValueError, RecursionError):
        grades = set()
    grades = grades or _from_objects(text.rpartition("</think>")[2], code)
    grades = grades or _from_objects(text, code) or _from_words(text, code)
    if len(grades) == 1:
        return grades.pop(), ""
    if grades:
        return None, f"the reply gives several verdicts: {', '.join(map(str, sorted(grades)))}"
    if finish_reason == "length":
        return None, "the reply was cut by max_tokens before its verdict"
    if not text:
        return None, "the reply holds thoughts only" if thought else "the reply is empty"
    return None, "the reply holds no verdict with the code of this comparison"


def preference(grade: int, swapped: bool) -> float:
    """Preference for the candidate: 1, 0.75, 0.5, 0.25, 0 for the grades 1 … 5; mirrored if it was shown second."""
    first = (GRADES - grade) / (GRADES - 1)
    return 1 - first if swapped else first


def _from_objects(text: str, code: str) -> set[int]:
    """The grade of the last JSON object with the code, and another one that follows it in words."""
    decoder, start = json.JSONDecoder(strict=False), text.rfind("{") if code in text.lower() else -1
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            found, end = None, start
        if grade := _grade(found, code):
            return grade | _from_words(text[end:], code)
        start = text.rfind("{", 0, start)
    return set()


def _grade(found: Any, code: str) -> set[int]:
    if not isinstance(found, dict) or str(found.get("code")).strip().lower() != code:
        return set()
    text = str(found.get("verdict")).strip()
    return {int(text[0])} if re.fullmatch(rf"[1-{GRADES}](\.0+)?", text) else set()


def _from_words(text: str, code: str) -> set[int]:
    """The code and the verdict that end the text."""
    found = WORDS.search(text)
    if found is None or (found[1] or found[4]).lower() != code:
        return set()
    return {int(found[2] or found[3])}
