"""Translating questions: seq2seq models with language tags, causal models, servers; failures, checks, resuming."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest
import torch
from datasets import Dataset

from hf_mlalign.core.errors import DataError
from hf_mlalign.generation.requests import Answer
from hf_mlalign.generation.seq2seq_backend import Seq2SeqBackend, language_tags
from hf_mlalign.generation.server_backend import ServerBackend
from hf_mlalign.generation.transformers_backend import TransformersBackend
from hf_mlalign.spontaneous.questions.builder import QuestionTranslationBuilder
from hf_mlalign.spontaneous.questions.translator import QuestionTranslator
from tests.processes import REPO
from tests.servers import ChatServer
from tests.tiny_models import byte_tokenizer, tiny_llama

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def nllb():
    """A real NLLB tokenizer over single letters and an M2M-100 of 80,000 random weights that prefers letters."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    pieces = ("<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS)
    tokenizer = NllbTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64,
        decoder_ffn_dim=64, encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64,
        pad_token_id=1, eos_token_id=2, bos_token_id=0, decoder_start_token_id=2, init_std=0.5,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config).eval()
    model.lm_head.weight.data[len(pieces) :] = 0
    model.generation_config.max_length = None
    return model, tokenizer


class Table:
    """A backend that looks translations up."""

    model = "table"

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def describe(self):
        return {"backend": "table"}

    def run(self, requests, settings, on_answer, on_failure):
        for request in requests:
            self.asked.append(request.messages[-1]["content"])
            answer = self.answers.get(request.prompt_id)
            if answer is None:
                on_failure(request, "the server is asleep")
            else:
                on_answer(request, Answer(answer.removesuffix("✂"), "length" if "✂" in answer else "stop", self.model))


def translator(backend, **options) -> QuestionTranslator:
    return QuestionTranslator(backend, progress=False, **options)


# Seq2seq


def test_language_tags_are_found_in_the_tokenizer(nllb):
    tags = language_tags(nllb[1])
    wanted = {"de": "deu_Latn", "en": "eng_Latn", "zh": "zho_Hans", "no": "nob_Latn", "ar": "arb_Arab",
              "ms": "zsm_Latn", "sw": "swh_Latn", "hi": "hin_Deva", "sl": "slv_Latn", "th": "tha_Thai"}  # fmt: skip
    assert {code: tags[code] for code in wanted} == wanted
    assert language_tags(byte_tokenizer()) == {}
    other = byte_tokenizer()
    other.add_special_tokens({"additional_special_tokens": ["__de__", "__en__", "de_DE", "<extra>"]})
    assert language_tags(other) == {"de": "__de__", "en": "__en__"}


def test_seq2seq_translations_are_those_of_generate(nllb):
    model, tokenizer = nllb
    texts = ["who came", "what is it", "a b c", "why"]
    done = translator(nllb, max_tokens=6, batch_size=3, max_length_ratio=None, min_probability=None)
    got = done._ask("abcd", texts, "de", "sw")[0]
    tokenizer.src_lang = "deu_Latn"
    for row, text in enumerate(texts):
        out = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=6, num_beams=4, do_sample=False,
                             forced_bos_token_id=tokenizer.convert_tokens_to_ids("swh_Latn"))[0]  # fmt: skip
        assert tokenizer.convert_ids_to_tokens(out.tolist())[1] == "swh_Latn"
        assert got[row].text == tokenizer.decode(out, skip_special_tokens=True).strip() != ""
        free = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=6, num_beams=4, do_sample=False)
        assert got[row].text != tokenizer.decode(free[0], skip_special_tokens=True).strip()


def test_the_source_language_reaches_the_encoder(nllb):
    backend = Seq2SeqBackend(*nllb)
    request = done_request("why", "sw")
    for source, tag in (("de", "deu_Latn"), ("en", "eng_Latn")):
        _, ids = backend.for_source(source)._fitting(*nllb, [request], "sw", lambda *a: None)[0]
        assert nllb[1].convert_ids_to_tokens(ids) == [tag, "▁", "w", "h", "y", "</s>"]
    assert backend.for_source("de").describe() != backend.describe()


def test_seq2seq_failures_and_errors(nllb):
    done = translator(nllb, max_tokens=4, max_length_ratio=None, min_probability=None)
    assert done.translate(["long", "b"], ["a " * 60, "why"], "de", "en")[0] is None
    failed = {f.id: f for f in done.failures_}
    assert failed["long"].reason == "failed"
    assert "the encoder takes 64" in failed["long"].detail
    with pytest.raises(DataError, match="no known tag for 'kl'"):
        done.translate(["x"], ["why"], "de", "kl")
    with pytest.raises(DataError, match="translate by beam search"):
        translator(nllb, temperature=0.5).translate(["x"], ["why"], "de", "en")
    with pytest.raises(DataError, match=r"cannot load '/no/such' as a seq2seq model"):
        translator("/no/such").translate(["x"], ["why"], "de", "en")
    own = Seq2SeqBackend(*nllb, language_codes={"kl": "kal_Latn"}, num_beams=1)
    assert own._tag(nllb[1], "kl") == "kal_Latn"


def test_seq2seq_from_a_folder_with_a_prefix(nllb, tmp_path):
    for part in nllb:
        part.save_pretrained(tmp_path / "nllb")
    loaded = Seq2SeqBackend(tmp_path / "nllb", source="de", prefix="{source} to {target_code} ")
    done = QuestionTranslator(str(tmp_path / "nllb"), progress=False, max_tokens=5, min_probability=None,
                              max_length_ratio=None)  # fmt: skip
    texts = ["who came", "why"]
    plain = [a.text for a in done._ask("ab", texts, "de", "en")[0].values()]
    again = [a.text for a in translator(nllb, max_tokens=5)._ask("ab", texts, "de", "en")[0].values()]
    assert plain == again
    model, tokenizer = loaded._load()
    _, ids = loaded._fitting(model, tokenizer, [done_request("why", "sw")], "sw", lambda *a: None)[0]
    letters = [piece for piece in tokenizer.convert_ids_to_tokens(ids) if piece in LETTERS]
    assert "".join(letters) == "ermantoswwhy"  # "German to sw why" without its capital


def done_request(text: str, language: str):
    from hf_mlalign.generation.requests import PromptTable, build_requests

    return build_requests(PromptTable(["q"], [language], [text]), 1, 0, None, False)[0]


# Checks


def test_every_failure_has_its_reason():
    long = "Wie viele Blumen hat die Frau auf dem Markt gekauft?"
    answers = {"empty": " ", "cut": "Wie viele Blumen✂", "same": "How many flowers did the woman buy?",
               "other": "Combien de fleurs la femme a-t-elle achetées au marché hier ?", "big": long * 4,
               **{f"good{i}": long for i in range(6)}}  # fmt: skip
    question = "How many flowers did the woman buy?"
    done = translator(Table(answers))
    names = [*answers, "gone"]
    got = done.translate(names, [question] * len(names), "en", "de")
    assert got == [None] * 5 + [long] * 6 + [None]
    reasons = {f.id: f.reason for f in done.failures_}
    assert reasons == {"empty": "empty", "cut": "truncated", "same": "untranslated", "other": "wrong_language",
                       "big": "length_ratio", "gone": "failed"}  # fmt: skip
    frame = done.failures()
    assert frame[frame.id == "gone"].detail.item() == "the server is asleep"
    assert frame[frame.id == "other"].translation.item() == answers["other"]
    counts = done.counts().loc[("en", "de")]
    assert (counts.asked, counts.usable, counts.failed, counts.wrong_language) == (12, 6, 1, 1)


def test_checks_can_be_switched_off_and_know_their_limits():
    french = "Combien de fleurs la femme a-t-elle achetées au marché hier ?"
    off = translator(Table({"a": french}), max_length_ratio=None, min_probability=None)
    assert off.translate(["a"], ["How many?"], "en", "de") == [french]
    few = translator(Table({"a": "x" * 100, "b": "x" * 80}))
    assert few.translate(["a", "b"], ["q" * 10, "r" * 10], "en", "de") == [None, "x" * 80]  # 10 > 3² ≥ 8
    unknown = translator(Table({"a": french}), max_length_ratio=None)
    assert unknown.translate(["a"], ["How many?"], "en", "ceb") == [french]
    assert off.translate([], [], "en", "de") == []
    with pytest.raises(DataError, match="two questions have one id"):
        off.translate(["a", "a"], ["x", "y"], "en", "de")


@pytest.mark.parametrize("options", [{"kind": "rnn"}, {"max_length_ratio": 1.0}, {"min_probability": 0.0},
                                     {"prompt": "Translate"}, {"max_tokens": 0}])  # fmt: skip
def test_options_out_of_range(options):
    with pytest.raises(DataError, match=next(iter(options))):
        translator("model", **options)


# Causal models and servers


def test_a_causal_model_is_asked_in_words():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    done = translator((model, tokenizer), kind="causal", max_tokens=4)
    answers = done._ask(["a"], ["Wer?"], "de", "en")[0]
    assert isinstance(done._resolved(), TransformersBackend)
    text = "Translate the input from German to English. Give the translation only.\n\nWer?"
    ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True,
                                        return_dict=True, return_tensors="pt")  # fmt: skip
    out = model.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert answers[0].text == tokenizer.decode(out, skip_special_tokens=True).strip()


def test_a_server_translates_what_the_builder_lacks(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    rows = Dataset.from_dict({"id": ["a", "b"], "language": ["en", "en"], "question": ["How many?", "Who came?"]})
    german = {"How many?": "Wie viele?", "Who came?": "Who came?"}
    with ChatServer(lambda body: german[body["messages"][0]["content"].split("\n\n")[1]]) as server:
        hook = translator(ServerBackend(server.base_url, "tiny"), output=tmp_path / "store")
        builder = QuestionTranslationBuilder(languages=["de"], translator=hook)
        built = builder.build(rows)
        assert built["prompt"] == ["Wie viele?\nTranslate the input from German to English:\n"]
        assert builder.result_.per_language().set_index("language").loc["de"].to_dict() == {
            "questions": 2, "translated": 1, "not_translated": 1, "kept": 1, "rows": 1,
        }  # fmt: skip
        assert [f.reason for f in hook.failures_] == ["untranslated"]
        asked = server.requests
        again = QuestionTranslationBuilder(
            languages=["de"], translator=translator(ServerBackend(server.base_url, "tiny"), output=tmp_path / "store")
        )
        assert again.build(rows)[:] == built[:]
        assert server.requests == asked
    assert builder.parameters()["translator"]["model"] == "tiny"


def test_english_is_translated_from_the_only_language_there_is():
    rows = Dataset.from_dict({"id": [1, 2], "language": ["sw", "sw"], "question": ["Nani alikuja?", "Ni ngapi?"]})
    table = Table({"1": "Who came?", "2": "How many?"})
    builder = QuestionTranslationBuilder(translator=translator(table))
    assert set(builder.build(rows)["completion"]) == {"Who came?", "How many?"}
    assert all(text.startswith("Translate the input from Swahili to English.") for text in table.asked)


def test_kill_9_asks_nothing_twice_but_what_was_under_way(tmp_path):
    code = textwrap.dedent("""
        import sys
        from hf_mlalign.generation.server_backend import ServerBackend
        from hf_mlalign.spontaneous.questions.translator import QuestionTranslator
        output, url = sys.argv[1:]
        done = QuestionTranslator(ServerBackend(url, "tiny", concurrency=4), output=output, progress=False)
        names = [f"q{i}" for i in range(60)]
        print(sum(t is not None for t in done.translate(names, [f"How many of {n}?" for n in names], "en", "de")))
    """)
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(REPO), "HF_HOME": str(tmp_path / "home")}
    with ChatServer(lambda body: f"Wie viele {body['messages'][0]['content'][-4:-1]}?", delay=0.03) as server:
        command = [sys.executable, "-c", code, str(tmp_path / "out"), server.base_url]
        child = subprocess.Popen(command, env=environment)
        while server.answered < 20 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.2)
        assert server.requests < 60
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "60"
    assert len(Counter(body["messages"][0]["content"] for body in server.bodies)) == 60
    assert server.requests - 60 <= 4
