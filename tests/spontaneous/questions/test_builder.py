"""Question-translation rows: forms of the source, directions, shares, answers, duplicates, splits, templates."""

import re

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import SPONTANEOUS_LANGUAGES
from hf_mlalign.spontaneous.classification.tasks import load_task, task_names
from hf_mlalign.spontaneous.options import AUTHORS_LINE
from hf_mlalign.spontaneous.questions.builder import QuestionTranslationBuilder
from hf_mlalign.spontaneous.questions.choice import shares, test_keys
from hf_mlalign.spontaneous.questions.leaks import holds_gold, marked_answers
from hf_mlalign.spontaneous.questions.reading import ParallelQuestion, find_columns, same_text
from hf_mlalign.spontaneous.questions.templates import Templates

test_keys.__test__ = False

WIDE = [
    {"id": "a", "en": "How many?", "de": "Wie viele?", "zh": "多少？"},
    {"id": "b", "en": "Which colour?", "de": "Welche Farbe?", "zh": "哪种颜色？"},
    {"id": "c", "en": "Who came?", "de": "Wer kam?", "zh": None},
]


def long_form() -> Dataset:
    rows = [(row["id"], code, row[code]) for row in WIDE for code in ("en", "de", "zh") if row[code]]
    return Dataset.from_list([{"id": i, "language": c, "question": q} for i, c, q in rows])


def pairs_form() -> Dataset:
    rows = [(r["id"], c, r[c], r["en"]) for r in WIDE for c in ("de", "zh")]
    return Dataset.from_list([
        {"id": i, "source_language": c, "target_language": "en", "source": s, "target": t} for i, c, s, t in rows
    ])  # fmt: skip


def numbered(n: int, languages=("de", "sw"), **columns) -> Dataset:
    """n questions that differ in a number, in wide form."""
    texts = {code: [f"{code} question number {i} of the day?" for i in range(n)] for code in ("en", *languages)}
    return Dataset.from_dict({"id": list(range(n)), **texts, **columns})


def rows_of(ds) -> set[tuple]:
    return {(r["prompt"], r["completion"], r["language"], r["question_id"]) for r in ds}


def counts(builder) -> dict[str, dict[str, int]]:
    return builder.result_.per_language().set_index("language").to_dict("index")


# Forms


def test_every_form_gives_the_same_rows():
    """Worked out by hand: two questions in both languages; "even" leaves out one German question."""
    built = {}
    for name, ds in {"wide": Dataset.from_list(WIDE), "long": long_form(), "pairs": pairs_form()}.items():
        builder = QuestionTranslationBuilder(mix="all")
        built[name] = builder.build(ds)
        assert counts(builder)["all"]["kept"] == 5
    assert rows_of(built["wide"]) == rows_of(built["long"]) == rows_of(built["pairs"])
    assert rows_of(built["wide"]) == {
        ("Wie viele?\nTranslate the input from German to English:\n", "How many?", "de", "a"),
        ("Welche Farbe?\nTranslate the input from German to English:\n", "Which colour?", "de", "b"),
        ("Wer kam?\nTranslate the input from German to English:\n", "Who came?", "de", "c"),
        ("多少？\nTranslate the input from Chinese to English:\n", "How many?", "zh", "a"),
        ("哪种颜色？\nTranslate the input from Chinese to English:\n", "Which colour?", "zh", "b"),
    }
    assert built["wide"]["prompt"][:] == built["long"]["prompt"][:] == built["pairs"]["prompt"][:]


def test_even_shares_and_both_directions():
    builder = QuestionTranslationBuilder(direction="both")
    built = builder.build(Dataset.from_list(WIDE))
    assert counts(builder)["all"] == {
        "questions": 6, "no_text": 1, "not_chosen": 1, "kept": 4, "rows": 8,
    }  # fmt: skip
    directions = {(r["source_language"], r["target_language"]) for r in built}
    assert directions == {("de", "en"), ("en", "de"), ("zh", "en"), ("en", "zh")}
    back = {(r["prompt"], r["completion"]) for r in built if r["source_language"] == "en" and r["language"] == "zh"}
    assert ("How many?\nTranslate the input from English to Chinese:\n", "多少？") in back


def test_any_columns_by_mapping():
    wide = Dataset.from_dict({"n": [1], "frage": ["Wie viele?"], "asked": ["How many?"], "id": ["x"]})
    mapped = {"frage": "German", "asked": "en", "n": "id"}
    assert QuestionTranslationBuilder(column_mapping=mapped).build(wide)[0]["question_id"] == "1"
    pairs = Dataset.from_dict({"src": ["Wie viele?"], "tgt": ["How many?"]})
    builder = QuestionTranslationBuilder(
        column_mapping={"src": "source", "tgt": "target"}, source_language="de", target_language="en"
    )
    assert builder.build(pairs)[0]["completion"] == "How many?"
    reverse = Dataset.from_dict({"source": ["How many?"], "target": ["Wie viele?"]})
    turned = QuestionTranslationBuilder(source_language="en", target_language="de").build(reverse)
    assert rows_of(turned) == {("Wie viele?\nTranslate the input from German to English:\n", "How many?", "de", "0")}


def test_id_is_no_indonesian_column():
    columns = find_columns(Dataset.from_list(WIDE))
    assert columns.form == "wide"
    assert columns.languages == {"en": "en", "de": "de", "zh": "zh"}
    assert columns.roles["id"] == "id"
    labelled = Dataset.from_list([{**row, "label": "yes"} for row in WIDE])  # "Label" is a language, too
    assert find_columns(labelled).languages == columns.languages
    assert find_columns(labelled).answers == ("label",)
    indonesian = Dataset.from_dict({"key": ["k"], "id": ["Berapa?"], "en": ["How many?"]})
    assert find_columns(indonesian, {"key": "id", "id": "id-ID", "en": "en"}).languages == {"id": "id", "en": "en"}


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        ({"text": ["x"]}, None, "No form of parallel questions in the columns found: text"),
        ({"en": ["x"], "de": ["y"]}, {"de": "Qwertzish"}, "neither a role .* nor a language"),
        ({"en": ["x"], "de": ["y"]}, {"fr": "fr"}, "not there: fr"),
        ({"en": ["x"], "a": ["y"], "b": ["z"]}, {"en": "en", "a": "de", "b": "German"}, "maps 'a' and 'b' to 'de'"),
        ({"id": [1, 1], "language": ["de", "de"], "question": ["x", "y"]}, None, "row 1: question '1' in 'de'"),
        ({"id": [1], "language": ["xx-?"], "question": ["x"]}, None, "unknown language"),
        ({"id": [1.5], "en": ["x"], "de": ["y"]}, None, "row 0: 1.5 is not an id"),
        ({"id": [1, 1], "en": ["x", "y"], "de": ["u", "v"]}, None, "row 1: question '1' is already in row 0"),
        ({"source": ["x"], "target": ["y"], "source_language": ["de"], "target_language": ["fr"]}, None,
         "row 0: 'de' → 'fr'. One side must be English"),
        ({"id": ["a"], "language": ["en"], "question": ["x"]}, None, "all questions are English"),
        ({"id": ["a"], "language": ["de"], "question": ["x"]}, None, "No question is left"),
    ],
)  # fmt: skip
def test_sources_that_cannot_be_read(columns, mapping, message):
    with pytest.raises(DataError, match=message):
        QuestionTranslationBuilder(column_mapping=mapping).build(Dataset.from_dict(columns))


def test_a_column_of_numbers_is_no_text():
    ds = Dataset.from_dict({"id": ["a"], "language": ["de"], "question": [3]})
    with pytest.raises(DataError, match="Column 'question', row 0: holds int64"):
        QuestionTranslationBuilder().build(ds)
    with pytest.raises(DataError, match="Expected one split, got a DatasetDict"):
        QuestionTranslationBuilder().build(DatasetDict(train=ds))


# Shares


def test_shares_by_hand():
    available = {"de": 100, "zh": 40, "sw": 70}
    assert shares(available, "even", 10_000) == {"de": 40, "zh": 40, "sw": 40}
    assert shares(available, "even", 25) == {"de": 25, "zh": 25, "sw": 25}
    assert shares(available, "all", 50) == {"de": 50, "zh": 40, "sw": 50}
    assert shares(available, {"de": 2, "zh": 1, "sw": 1}, None) == {"de": 80, "zh": 40, "sw": 40}
    assert shares(available, {"de": 1, "zh": 0.5, "sw": 0.1}, 60) == {"de": 60, "zh": 30, "sw": 6}
    with pytest.raises(DataError, match=r"mix: give a weight to each of the languages de, sw, zh.*\(sw, zh\)"):
        shares(available, {"de": 1}, None)


@given(
    st.dictionaries(st.sampled_from(SPONTANEOUS_LANGUAGES), st.tuples(st.integers(1, 500), st.floats(0.1, 10)),
                    min_size=1),
    st.integers(1, 300),
)  # fmt: skip
def test_shares_keep_their_bounds_and_proportions(table, most):
    available = {code: n for code, (n, _) in table.items()}
    weights = {code: w for code, (_, w) in table.items()}
    for mix in ("even", "all", weights):
        got = shares(available, mix, most)
        assert all(0 <= got[code] <= min(available[code], most) for code in available)
    got = shares(available, weights, most)
    scale = min(most / max(weights.values()), *(available[c] / weights[c] for c in weights))
    assert all(abs(got[c] - weights[c] * scale) <= 1 for c in weights)


def test_the_same_questions_are_taken_in_every_language_whatever_the_order():
    ds = numbered(40)
    first = QuestionTranslationBuilder(n_per_language=10, seed=3).build(ds)
    by_language = {code: {r["question_id"] for r in first if r["language"] == code} for code in ("de", "sw")}
    assert by_language["de"] == by_language["sw"]
    assert len(by_language["de"]) == 10
    again = QuestionTranslationBuilder(n_per_language=10, seed=3).build(ds.select(range(39, -1, -1)))
    assert again[:] == first[:]
    other = QuestionTranslationBuilder(n_per_language=10, seed=4).build(ds)
    assert {r["question_id"] for r in other} != by_language["de"]
    weighted = QuestionTranslationBuilder(mix={"de": 1, "Swahili": 0.25}, n_per_language=20).build(ds)
    assert [weighted["language"][:].count(code) for code in ("de", "sw")] == [20, 5]


def test_tasks_and_languages_are_chosen():
    ds = numbered(6, task=["snli", "gsm8k"] * 3)
    built = QuestionTranslationBuilder(tasks=["snli"], languages=["German"], template="task").build(ds)
    assert set(built["task"]) == {"snli"}
    assert set(built["language"]) == {"de"}
    assert built[0]["prompt"].endswith("Translate the premise and the hypothesis from German to English:\n")
    with pytest.raises(DataError, match="tasks: no questions of paws. There are: gsm8k, snli"):
        QuestionTranslationBuilder(tasks=["paws"]).build(ds)
    with pytest.raises(DataError, match="no questions in fr. There are: de, sw"):
        QuestionTranslationBuilder(languages=["fr"]).build(ds)
    one, listed = (QuestionTranslationBuilder(tasks=t, languages=c) for t, c in (("snli", "de"), (["snli"], ["de"])))
    assert one.build(ds)[:] == listed.build(ds)[:]


# Answers, duplicates, instruction lines


def test_marked_answers():
    texts = ['Premise: x\nAnswer: "', "Question?\nAnswer: entailment", "Frage?\nAntwort: 42", "问题？\n答案：B",
             "How much?\n#### 18", r"so \boxed{3}", "Jibu: \n", "The answer to everything is what?",
             "Can you answer me: why?", "**The answer is:** 5", "Answer:\n12",
             "What is the answer: 4 or 5?"]  # fmt: skip
    answered = [False, True, True, True, True, True, False, False, False, True, True, False]
    assert marked_answers(texts) == answered


@pytest.mark.parametrize(
    ("text", "answered"),
    [
        ("Great!\nSentiment: positive", True), ("Great!\nLabel: neutral", True), ("Great!\nLabel: ", False),
        ("How many?\nA: 42", True), ("Q: How many? A: 42", True), ("Which?\nA: red\nB: blue", False),
        ("How many? Answer: 42", True), ("问题？答案：42", True), ("How many are left? Answer: ", False),
        ("Please give the answer: 42 or 43?", False), ("How many? The answer is 42.", True),
        ("Wie viele? Die Antwort ist 42", True), ("What is it? The answer is yes.", True), ("答えは42です。", True),
        ("The answer is 42. What was the question?", False), ("The answer is one of two numbers.", False),
        ("He said the answer is 42.", False), ("La réponse est : 5", True), ("Is the answer 42?", False),
    ],
)  # fmt: skip
def test_answers_marked_by_other_words_and_at_other_places(text, answered):
    assert marked_answers([text]) == [answered]


@pytest.mark.parametrize("name", task_names())
def test_the_answer_line_of_every_bundled_task_in_every_language(name):
    task = load_task(name)
    for language, labels in task.labels.items():
        texts = dict.fromkeys(task.fields, "x")
        asked = task.prompt(language, [], texts)
        assert marked_answers([asked]) == [False]
        assert marked_answers([f'{asked}{label}"' for label in labels]) == [True] * len(labels)


@pytest.mark.parametrize(
    ("text", "golds", "leaks"),
    [
        ("How much did she earn? 10", ("10",), True),
        ("How much did she earn?\n10.", ("10",), True),
        ("She earned 10. How much is left?", ("10",), False),
        ("She has 10", ("10",), False),
        ("It costs 3.14", ("14",), False),
        ("entailment", ("entailment",), False),
        ("Is it so? Yes", ("no", "yes"), True),
        ("Explain: The sky is blue because of scattering. Why?", ("the sky is blue because of scattering",), True),
        ("Which?\nA. red\nB. blue", ("blue",), False),
        ("Which?", (), False),
    ],
)
def test_gold_answers(text, golds, leaks):
    assert holds_gold(text, golds) is leaks


def test_answers_are_dropped_and_counted_or_raised():
    ds = Dataset.from_dict({
        "id": ["a", "b", "c"], "en": ["How many? 7", "Which one?", "Why?\nAnswer: because"],
        "de": ["Wie viele?", "Welches?", "Warum?"], "answer": ["7", "this", None],
    })  # fmt: skip
    builder = QuestionTranslationBuilder()
    assert builder.build(ds)["question_id"] == ["b"]
    assert builder.result_.drops() == {"answer": 2}
    assert "2 answer (it holds an answer)" in builder.result_.summary()
    with pytest.raises(DataError, match=r"Question 'a' in 'de': it holds an answer \('How many\? 7'\)"):
        QuestionTranslationBuilder(answers="error").build(ds)
    own = QuestionTranslationBuilder(detector=lambda texts: ["one" in text for text in texts])
    assert own.build(ds)["question_id"] == ["c"]  # "a" by its answer column, "b" by the detector
    with pytest.raises(DataError, match="detector: gave 1 values for 3 texts"):
        QuestionTranslationBuilder(detector=lambda texts: [False]).build(ds)


def test_a_detector_is_known_by_name_and_code():
    def options(detector):
        return QuestionTranslationBuilder(detector=detector).parameters()["detector"]

    first, second = (eval(f"lambda texts: [{word!r} in text for text in texts]") for word in ("one", "two"))
    again = eval("lambda texts: ['one' in text for text in texts]")
    assert options(first) == options(again) != options(second)
    assert options(first)["name"] == "<lambda>"
    assert options(Words("one")) == options(Words("one")) != options(Words("two"))
    assert options(Words("one"))["name"] == "Words"


class Words:
    def __init__(self, word):
        self.word = word

    def __call__(self, texts):
        return [self.word in text for text in texts]

    def describe(self):
        return {"word": self.word}


def test_labels_of_a_class_label_column_are_read_by_name():
    ds = numbered(2, languages=("de",)).map(lambda row: {"en": row["en"] + (" neutral" if row["id"] else "")})
    ds = ds.add_column("label", [0, 1]).cast_column("label", ClassLabel(names=["entailment", "neutral"]))
    builder = QuestionTranslationBuilder()
    assert builder.build(ds)["question_id"] == ["0"]


def test_duplicates_and_untranslated():
    ds = Dataset.from_dict({
        "id": ["a", "b", "c", "d"], "en": ["One?", "Two?", "One?", "Same?"],
        "de": ["Eins?", "eins? ", "Uno?", "SAME?"],
    })  # fmt: skip
    forward, back = (QuestionTranslationBuilder(direction=d) for d in ("x-en", "en-x"))
    assert set(forward.build(ds)["question_id"]) == {"a", "c"}
    assert set(back.build(ds)["question_id"]) == {"a", "b"}
    assert forward.result_.drops() == back.result_.drops() == {"untranslated": 1, "duplicate": 1}
    assert len(QuestionTranslationBuilder(deduplicate=False).build(ds)) == 3


def test_the_authors_line_is_cut():
    source = 'Frage?\nAntwort: "\nTranslate the input from German to English:\n'
    ds = Dataset.from_dict({"source": [source], "target": ['Question?\nAnswer: "'], "source_language": ["de"],
                            "target_language": ["en"]})  # fmt: skip
    builder = QuestionTranslationBuilder()
    row = builder.build(ds)[0]
    assert row["prompt"] == source
    assert row["completion"] == 'Question?\nAnswer: "'
    assert builder.result_.notes[0] == "An instruction line was cut from the end of 1 question."
    kept = QuestionTranslationBuilder(strip_pattern=None).build(ds)[0]["prompt"]
    assert kept.count("Translate the input") == 2
    inside = ds.map(lambda row: {"source": "Translate the input from German to English:\nFrage?"})
    assert QuestionTranslationBuilder().build(inside)[0]["prompt"].count("Translate the input") == 2


# Splits


def test_a_question_is_in_one_split_in_all_languages():
    built = QuestionTranslationBuilder(test_size=0.25, direction="both").build(numbered(20))
    held = [set(part["question_id"]) for part in (built["train"], built["test"])]
    assert [len(h) for h in held] == [15, 5]
    assert held[0].isdisjoint(held[1])
    assert [len(part) for part in built.values()] == [60, 20]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["de", "sw"]), st.integers(0, 12), st.integers(0, 12)),
             min_size=2, max_size=30, unique_by=lambda row: row[:2]),
    st.floats(0.01, 0.9), st.integers(0, 5),
)  # fmt: skip
def test_no_text_is_in_both_splits(rows, share, seed):
    questions = [ParallelQuestion(str(i), "", code, f"{code} {x}", f"english {e}") for i, code, x, e in rows]
    try:
        held = test_keys(questions, share, seed)
    except DataError:
        return
    sides = [[q for q in questions if (q.key in held) == inside] for inside in (True, False)]
    assert all(sides)
    texts = [{same_text(q.text) for q in side} | {same_text(q.english) for q in side} for side in sides]
    assert texts[0].isdisjoint(texts[1])
    assert test_keys(questions[::-1], share, seed) == held


def test_a_single_question_cannot_be_split():
    with pytest.raises(DataError, match="a single question"):
        QuestionTranslationBuilder(test_size=0.5).build(numbered(1))


# Templates and formats


def test_every_bundled_template_in_every_language():
    templates = Templates(choice="task")
    assert set(templates.by_name) == {"general", "emotion", "snli", "paws", "gsm8k"}
    for name, template in templates.by_name.items():
        assert set(SPONTANEOUS_LANGUAGES) <= set(template.instructions), name
        for language in SPONTANEOUS_LANGUAGES:
            text = template.prompt_for("Q {x}?", "de", "sw", language)
            assert text.startswith("Q {x}?\n")
            assert text.endswith("\n")
            assert not re.search(r"[{}]", text[len("Q {x}?") :])
    assert templates.of("SNLI").name == "snli"
    assert templates.of("unheard of").name == "general"


def test_the_instruction_is_in_the_language_of_the_text():
    built = QuestionTranslationBuilder(instruction_language="source", direction="both", mix="all").build(
        Dataset.from_list(WIDE)
    )
    lines = {(r["source_language"], r["target_language"]): r["prompt"].split("\n")[-2] for r in built}
    assert lines["de", "en"] == "Übersetze die Eingabe (Deutsch → Englisch):"
    assert lines["zh", "en"] == "翻译输入内容（中文 → 英语）："
    assert lines["en", "zh"] == "Translate the input from English to Chinese:"


def test_own_templates(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"mine": {"prompt": "{instruction} {question} =>", "instruction": "{target}:", '
                    '"completion": " {translation} <end>"}}')  # fmt: skip
    row = QuestionTranslationBuilder(templates=path, template="mine").build(numbered(1, ("de",)))[0]
    assert row["prompt"] == "English: de question number 0 of the day? =>"
    assert row["completion"] == " en question number 0 of the day? <end>"


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({"general": {"prompt": "no place"}}, "lacks {question}"),
        ({"general": {"prompt": "{question} {instruction}"}}, "no English instruction"),
        ({"general": {"prompt": "{question}", "completion": "x"}}, "lacks {translation}"),
        ({"general": {"prompt": "{question} {gold}"}}, "unknown {gold}"),
        ({"general": {"prompt": "{question} {"}}, "Double a brace"),
        ({"general": {"prompt": "{question}", "instruction": {"xx-?": "y"}}}, "unknown language"),
        ({"general": {"prompt": "{question}", "reply": "y"}}, "unknown reply"),
        ({"other": {"prompt": "{question}"}}, "no 'general'. There are: \"task\" and other"),
        ("/no/such/file.yaml", "cannot read '/no/such/file.yaml'"),
    ],
)
def test_templates_that_cannot_be_used(templates, message):
    with pytest.raises(DataError, match=re.escape(message)):
        QuestionTranslationBuilder(templates=templates)


def test_conversational_rows():
    row = QuestionTranslationBuilder(output_format="conversational").build(numbered(1, ("de",)))[0]
    text = "de question number 0 of the day?\nTranslate the input from German to English:"
    assert row["prompt"] == [{"role": "user", "content": text}]
    assert row["completion"] == [{"role": "assistant", "content": "en question number 0 of the day?"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "de-en"}, "direction: unknown"), ({"output_format": "chat"}, "output_format: unknown"),
        ({"answers": "keep"}, "answers: unknown"), ({"form": "tall"}, "form: unknown"),
        ({"n_per_language": -1}, "n_per_language: -1"), ({"test_size": 1.0}, "test_size: 1.0"),
        ({"seed": -1}, "seed: -1"), ({"mix": "fair"}, "mix: unknown"), ({"mix": {"de": -1}}, "weight of de"),
        ({"mix": {}}, "no language"), ({"languages": ["en"]}, "only English is named"),
        ({"strip_pattern": "("}, "not a regular expression"), ({"translator": object()}, "no translate"),
        ({"instruction_language": "de"}, "instruction_language: unknown"), ({"template": "poem"}, "no 'poem'"),
        ({"n_per_langauge": 5}, "questions: unknown option 'n_per_langauge'. Did you mean 'n_per_language'"),
        ({"mix": "de=two"}, "not of the form de=2,zh=1"), ({"languages": 5}, "languages: expected a list"),
    ],
)  # fmt: skip
def test_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        QuestionTranslationBuilder(**options)


def test_options_as_the_command_line_gives_them():
    builder = QuestionTranslationBuilder(mix="de=2, sw=1", n_per_language=0)
    assert builder.options.mix == {"de": 2.0, "sw": 1.0}
    assert builder.options.n_per_language is None
    assert builder.parameters()["n_per_language"] is None


# Real data


@pytest.mark.real_data
def test_the_authors_data(shared_data):
    ds = load_dataset("parquet", data_files=str(shared_data / "question_translation.parquet"), split="train")
    builder = QuestionTranslationBuilder(tasks=["snli"], languages=["zh", "de"])
    built = builder.build(ds)
    table = counts(builder)
    assert (table["all"]["questions"], table["all"]["kept"]) == (20_000, 19_998)
    assert builder.result_.drops() == {"duplicate": 2}
    sources = {re.sub(r"\s+", " ", text).strip() for text in ds["source"]}
    assert all(re.sub(r"\s+", " ", prompt).strip() in sources for prompt in built["prompt"])
    assert not any("Translate the input" in text for text in built["completion"])


@pytest.mark.real_data
def test_no_text_of_the_authors_data_is_flagged_and_every_completed_one_is(shared_data):
    ds = load_dataset("parquet", data_files=str(shared_data / "question_translation.parquet"), split="train")
    texts = [re.sub(AUTHORS_LINE, "", text) for side in ("source", "target") for text in ds[side]]
    assert len(texts) == 204_108
    assert sum(marked_answers(texts)) == 0
    open_slots = [text for text, task in zip(texts[: len(ds)], ds["task"], strict=True) if task == "snli"]
    assert all(marked_answers([text.rstrip() + "neutral" for text in open_slots]))


@pytest.mark.real_data
def test_snli_has_the_words_of_the_authors_data(shared_data):
    ds = load_dataset("parquet", data_files=str(shared_data / "question_translation.parquet"), split="train")
    task, seen = load_task("snli"), set()
    for language, kind, text in zip(ds["source_language"], ds["task"], ds["source"], strict=True):
        if kind == "snli" and language not in seen:
            seen.add(language)
            lines = [line for line in text.split("\n") if line and not line.startswith("Translate")]
            template = task.template[language].split("\n")
            assert [line.partition(":")[0] for line in lines] == [line.partition(":")[0] for line in template]
    assert seen == {"de", "es", "it", "sw", "zh"}
    instructions = Templates(None, "snli").of("snli").instructions
    assert "nguzo na hypothesis" in instructions["sw"]
