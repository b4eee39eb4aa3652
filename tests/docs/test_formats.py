"""The rows of docs/formats.md: what is read is recognised, what is written has these columns and types."""

import json
import re

import pytest
from datasets import Dataset, load_dataset

from hf_mlalign import load_demo_pool
from hf_mlalign.cli.demo.tiny_dpo import tiny_causal_lm
from hf_mlalign.cmalign.build import build_pairs
from hf_mlalign.data.layouts import LAYOUTS, open_pairs, recognise_layout
from hf_mlalign.evaluation.annotation.items import read_items
from hf_mlalign.evaluation.annotation.store import JUDGEMENTS, JudgementStore
from hf_mlalign.evaluation.judges.base import load_judge
from hf_mlalign.evaluation.judges.run import judge, read_answer_pairs
from hf_mlalign.generation.requests import Answer, read_prompts
from hf_mlalign.generation.sampler import ResponseSampler
from hf_mlalign.hub.run_record import RECORD, RunRecord
from hf_mlalign.launch.train_qsm import read_revisions
from hf_mlalign.mdaq.curation import curate
from hf_mlalign.spontaneous.classification.evaluate import evaluate_classification
from hf_mlalign.spontaneous.classification.rows import read_questions
from hf_mlalign.spontaneous.classification.tasks import load_task
from hf_mlalign.spontaneous.lens.parallel_prompts import read_parallel
from hf_mlalign.spontaneous.questions.build import build_questions
from hf_mlalign.spontaneous.questions.builder import QuestionTranslationBuilder
from tests.evaluation.annotation.human_studies import judge_all
from tests.test_docs import DOCS

PAGE = (DOCS / "formats.md").read_text(encoding="utf-8")


def row(heading: str) -> dict:
    """The first row shown below a heading."""
    section = PAGE.split(f"### {heading}\n", 1)[1].split("\n### ")[0]
    return json.loads(re.search(r"```json\n(.*?)\n```", section, re.DOTALL)[1])


def shape(value):
    """Column names and types; of a list, the shape of its first element."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_shapes_by_hand():
    assert shape({"a": [{"b": 1.5}], "c": None}) == {"a": [{"b": "float"}], "c": "NoneType"}
    assert shape({"a": 1}) != shape({"a": 1.0}) != shape({"b": 1.0})


def layouts() -> list[tuple[str, dict]]:
    section = PAGE.split("### Instruction data\n", 1)[1].split("\n### ")[0]
    shown = re.findall(r"^`([^`]+)`[^\n]*\n\n```json\n(.*?)\n```", section, re.MULTILINE | re.DOTALL)
    return [(name, json.loads(text)) for name, text in shown]


def test_every_layout_is_shown_and_recognised():
    assert [name for name, _ in layouts()] == list(LAYOUTS)
    for name, shown in layouts():
        schema = recognise_layout(shown)
        assert schema.layout == name
        instruction, response = schema.read_row(shown)
        assert instruction
        assert response
        assert set(shown) == set(schema.text_columns) | {schema.language} - {None}


def test_what_is_read():
    assert len(read_prompts(Dataset.from_list([row("Prompts to sample from")]))) == 1
    assert len(read_answer_pairs(Dataset.from_list([row("Answers of two models")]))) == 1
    prompt = row("Parallel prompts")
    english = {"id": prompt["id"], "language": "en", "prompt": "The opposite of summer is", "answer": "winter"}
    assert read_parallel(Dataset.from_list([english, prompt])).languages == ["en", "de"]


def test_expert_revisions_are_read(tmp_path):
    shown = row("Expert revisions")
    Dataset.from_list([shown]).to_json(tmp_path / "revisions.jsonl")
    read = read_revisions(tmp_path / "revisions.jsonl").to_dict("records")
    texts = {"instruction": "Nenne zwei Bäume.", "positive": shown["revised_response"], "negative": "Ahorn."}
    assert read == [{**texts, "id": 7, "language": "de", "held_out": False}]
    pooled = open_pairs(Dataset.from_list([shown]))
    assert pooled.pooled
    assert pooled.dataset["response"][:] == ["Ahorn.", shown["revised_response"]]


def test_questions_are_read():
    shown = row("Parallel questions")
    english = {**shown, "language": "en", "question": "How many eggs are left?"}
    assert len(QuestionTranslationBuilder().build(Dataset.from_list([english, shown]))) == 1


def test_classification_questions_are_read():
    shown, task = row("Classification questions"), load_task("snli")
    assert shown["answer"] in task.labels["de"]
    assert set(task.fields) | {"id", "language", "answer"} == set(shown)
    assert read_questions(Dataset.from_list([shown]), task)


@pytest.fixture(scope="module")
def pool():
    return load_demo_pool(["en", "sw"])


@pytest.fixture(scope="module")
def curated(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats") / "curated"
    source = pool.select_columns(["prompt", "response", "language"])
    return curate(source, folder, n_quality=6, n_diversity=1, progress=False).folder


def test_scored_rows(pool, tmp_path):
    from hf_mlalign.mdaq.scoring import score

    source = pool.select_columns(["prompt", "response", "language"]).select(range(3))
    assert shape(score(source, tmp_path / "scored").dataset[0]) == shape(row("Scored rows"))


def test_curated_rows(curated):
    assert shape(load_dataset(str(curated), "en", split="train")[0]) == shape(row("Curated rows"))


def test_scores_of_the_pool(curated):
    found = Dataset.from_parquet(str(curated / "scores.parquet"))
    assert shape(found[0]) == shape(row("Scores of the pool"))
    assert set(found["selection_reason"]) == {"", "quality", "diversity"}


def test_run_record(curated):
    shown, found = row("run.json"), json.loads((curated / RECORD).read_text())
    assert RunRecord.model_validate(shown)
    assert list(shown) == list(found)
    for key in ("parameters", "results", "source"):
        assert list(shown[key]) == list(found[key]), key
    assert shape(shown["results"]["per_language"]) == shape(found["results"]["per_language"])
    assert shown["parameters"] == {**found["parameters"]}


class Echo:
    model = "echo"

    def describe(self):
        return {"backend": "echo", "model": self.model}

    def run(self, requests, settings, on_answer, on_failure):
        for request in requests:
            on_answer(request, Answer(f"{request.prompt_id} {request.sample}", "stop", self.model))


def test_samples(tmp_path):
    prompts = Dataset.from_list([row("Prompts to sample from")])
    ResponseSampler(Echo(), n=2, progress=False).sample(prompts, tmp_path / "samples")
    assert shape(load_dataset(str(tmp_path / "samples"), split="train")[0]) == shape(row("Samples"))


def test_preference_pairs(pool, tmp_path):
    found = build_pairs(pool, tmp_path / "pairs").dataset["train"]
    shown = row("Preference pairs")
    assert shape(found[0]) == shape(shown)
    texts = [(r["prompt"], r["chosen"], r["rejected"], r["reference"]) for r in found]
    assert (shown["prompt"], shown["chosen"], shown["rejected"], shown["reference"]) in texts
    assert shown["margin"] == pytest.approx(shown["score_chosen"] - shown["score_rejected"], abs=1e-6)


def test_question_translation_rows(tmp_path):
    parallel = Dataset.from_dict({"id": ["a"], "en": ["How many eggs are left?"], "de": ["Wie viele Eier sind übrig?"]})
    build_questions(parallel, tmp_path / "questions")
    assert load_dataset(str(tmp_path / "questions"), split="train")[0] == row("Question-translation rows")


def test_judgements(tmp_path):
    Dataset.from_list([row("Answers of two models")]).to_json(tmp_path / "answers.jsonl")
    judge(tmp_path / "answers.jsonl", tmp_path / "judged", load_judge("length"))
    assert load_dataset(str(tmp_path / "judged"), split="train")[0] == row("Judgements")


def test_human_judgements(tmp_path):
    from hf_mlalign.evaluation.annotation.study import Study

    items = read_items(Dataset.from_list([row("Answers of two models")]))
    with JudgementStore(tmp_path / "j", {"seed": 0}).open() as store:
        judge_all(Study(items, store), "reader-01", prefer="Reis")
    found, shown = json.loads((tmp_path / "j" / JUDGEMENTS).read_text()), row("Human judgements")
    assert shape(found) == shape(shown)
    same = ("annotator", "prompt_id", "language", "preference", "candidate_chars", "baseline_chars")
    assert {name: found[name] for name in same} == {name: shown[name] for name in same}


def test_classification_rows(tmp_path):
    reviews = [{"id": i, "language": "en", "input": f"a {('fine', 'dull')[i % 2]} book, {i}",
                "answer": ("positive", "negative")[i % 2]} for i in range(5)]  # fmt: skip
    model, tokenizer = tiny_causal_lm([text for r in reviews for text in (r["input"], r["answer"], 'Emotion: "')])
    questions = Dataset.from_list(reviews)
    evaluate_classification(model, tokenizer, questions, "emotion", output=tmp_path / "run", progress=False)
    found = json.loads((tmp_path / "run" / "rows.jsonl").read_text().splitlines()[0])
    assert shape(found) == shape(row("Classification rows"))
