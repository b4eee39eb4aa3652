"""Prompts, and a backend whose answers are known."""

from datasets import Dataset

from hf_mlalign.generation.requests import Answer
from hf_mlalign.generation.sampler import ResponseSampler

PROMPTS = {
    "prompt_id": ["a", "a", "b", "b"],
    "language": ["en", "de", "en", "German"],
    "prompt": ["How are you?", "Wie geht es dir?", "Count to three.", "Zähle bis drei, bitte."],
}


def prompts(**changes) -> Dataset:
    return Dataset.from_dict({**PROMPTS, **changes})


class CannedBackend:
    """Answers from a function; counts what it is asked."""

    model = "canned"

    def __init__(self, answer=lambda r: f"{r.prompt_id}/{r.language}/{r.sample}", fail=lambda r: None, stop_after=None):
        self.answer, self.fail, self.stop_after, self.asked = answer, fail, stop_after, []

    def describe(self):
        return {"backend": "canned", "model": self.model}

    def run(self, requests, settings, on_answer, on_failure):
        for request in requests:
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            if reason := self.fail(request):
                on_failure(request, reason)
            else:
                on_answer(request, Answer(self.answer(request), "stop", self.model))


def sampler(backend=None, **options) -> ResponseSampler:
    return ResponseSampler(backend or CannedBackend(), **{"n": 2, "progress": False, **options})
