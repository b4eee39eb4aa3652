"""Translations by a seq2seq model as a backend of the sampler: language tags found in the tokenizer, padded batches."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mlalign.core.errors import DataError, listed
from hf_mlalign.data.languages import language_name, normalise, usual_script
from hf_mlalign.generation.requests import Answer, OnAnswer, OnFailure, Request, Sampling
from hf_mlalign.generation.transformers_backend import TransformersBackend

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TAG = re.compile(r"__[a-z]{2,3}__|[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}_[A-Z]{2}")


class Seq2SeqBackend(TransformersBackend):
    """Translates the last message of each request into the request's language.

    The decoder starts with the target's language tag (NLLB's deu_Latn, M2M-100's __de__, mBART's de_DE), which is
    looked up in the tokenizer; a tokenizer without such tags (Marian, T5) is used without.

    Args:
        model, tokenizer, batch_size, device, dtype, trust_remote_code: see `TransformersBackend`.
        source: ISO 639-1 code of the questions' language.
        num_beams: width of the beam search (4, *ours*).
        language_codes: ISO 639-1 → tag, for tags that are not recognised.
        prefix: put before each text, with {source}, {target} (English names), {source_code} or {target_code}, e.g.
            "translate {source} to {target}: " (T5) or "<2{target_code}> " (MADLAD).
    """

    kind = "seq2seq"

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        source: str = "en",
        num_beams: int = 4,
        language_codes: Mapping[str, str] | None = None,
        prefix: str = "",
        **options: Any,
    ):
        super().__init__(model, tokenizer, **options)
        if num_beams < 1:
            raise DataError(f"num_beams: {num_beams} is below 1.")
        self.source, self.num_beams, self.prefix = source, num_beams, prefix
        self.language_codes = dict(language_codes or {})

    def describe(self) -> dict[str, Any]:
        """What decides a translation besides its text and target."""
        inherited = {k: v for k, v in super().describe().items() if k != "continuous_batching"}
        return {**inherited, "backend": "seq2seq", "source": self.source, "num_beams": self.num_beams,
                "language_codes": self.language_codes, "prefix": self.prefix}  # fmt: skip

    def for_source(self, source: str) -> Seq2SeqBackend:
        """This backend for questions in another language; the model is shared."""
        self._load()
        other = copy.copy(self)
        other.source = source
        return other

    def run(self, requests: Sequence[Request], settings: Sampling, on_answer: OnAnswer, on_failure: OnFailure) -> None:
        """See `Backend.run`. Texts too long for the encoder are failures.

        Raises:
            DataError: a temperature above 0, or a language without a tag.
        """
        if settings.temperature:
            raise DataError("temperature: seq2seq models translate by beam search. Use 0.")
        import torch

        model, tokenizer = self._load()
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, (list, tuple)) else [ends])
        for target in dict.fromkeys(request.language for request in requests):
            group = [request for request in requests if request.language == target]
            fitting = self._fitting(model, tokenizer, group, target, on_failure)
            for begin in range(0, len(fitting), self.batch_size):
                batch = fitting[begin : begin + self.batch_size]
                inputs = tokenizer.pad({"input_ids": [ids for _, ids in batch]}, return_tensors="pt").to(model.device)
                tag = self._tag(tokenizer, target)
                first = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(tag)} if tag else {}
                with torch.no_grad():
                    out = model.generate(
                        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                        num_beams=self.num_beams, max_new_tokens=settings.max_tokens, **first,
                    )  # fmt: skip
                for (request, _), row in zip(batch, out.tolist(), strict=True):
                    text = tokenizer.decode(row, skip_special_tokens=True).strip()
                    on_answer(request, Answer(text, "stop" if ends & set(row[1:]) else "length", self.model))

    def _fitting(self, model, tokenizer, requests: Sequence[Request], target: str, on_failure: OnFailure) -> list:
        """(request, token ids) of the texts that fit, longest first."""
        names = {"source": language_name(self.source), "target": language_name(target), "source_code": self.source,
                 "target_code": target}  # fmt: skip
        before = self.prefix.format(**names)
        if getattr(tokenizer, "src_lang", None) is not None:
            tokenizer.src_lang = self._tag(tokenizer, self.source).strip("_")
        limit = getattr(model.config, "max_position_embeddings", None) or 2**31
        fitting = []
        for request in requests:
            ids = tokenizer(before + request.messages[-1]["content"])["input_ids"]
            if len(ids) > limit:
                on_failure(request, f"the question has {len(ids)} tokens; the encoder takes {limit}")
            else:
                fitting.append((request, ids))
        return sorted(fitting, key=lambda item: -len(item[1]))

    def _tag(self, tokenizer, language: str) -> str:
        """The tag of a language; "" for a tokenizer that has none."""
        tags = {**language_tags(tokenizer), **self.language_codes}
        if tags and language not in tags:
            raise DataError(
                f"language_codes: the tokenizer has no known tag for {language!r}. Known: {listed(sorted(tags))}."
            )
        return tags.get(language, "")


def language_tags(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """ISO 639-1 → the tokenizer's language tag: added tokens that look like one.

    If a language has several tags, the one in its usual script (Unicode CLDR) is taken, else the first by token number;
    Norwegian is Bokmål.
    """
    tags: dict[str, str] = {}
    for token, _ in sorted(tokenizer.get_added_vocab().items(), key=lambda item: item[1]):
        code = normalise(token.strip("_")) if _TAG.fullmatch(token) else None
        if code and (code not in tags or _usual(token, code) > _usual(tags[code], code)):
            tags[code] = token
    return tags


def _usual(tag: str, code: str) -> tuple[bool, bool]:
    return not tag.startswith("nno"), usual_script(code) == tag.split("_")[1]
