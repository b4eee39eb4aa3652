"""Sampling: requests, the store on disk, transformers models, and servers that fail on purpose."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlalign.core.errors import DataError
from hf_mlalign.data.languages import MDAQ_LANGUAGES, SPONTANEOUS_LANGUAGES
from hf_mlalign.generation.requests import (
    Answer,
    Request,
    Settings,
    language_instruction,
    read_prompts,
    request_seed,
    to_messages,
)
from hf_mlalign.generation.sampler import ResponseSampler, sample
from hf_mlalign.generation.server_backend import ServerBackend, retry_after
from hf_mlalign.generation.store import AnswerStore
from hf_mlalign.generation.transformers_backend import TransformersBackend, chat_ids, draw_tokens
from tests.servers import ChatServer, model_answers
from tests.tiny_models import byte_tokenizer, saved, tiny_gpt2, tiny_llama

REPO = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def online(monkeypatch):
    """huggingface_hub refuses loopback, too, in offline mode."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


# Requests


def test_messages_carry_system_prompt_and_language_instruction():
    assert to_messages("Wie?", "de", "Be short.") == (
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Wie?\n\nAntworte auf Deutsch."},
    )
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    assert [t["content"] for t in to_messages(turns, "ja")] == ["1", "2", "3\n\n日本語で答えてください。"]
    assert turns[-1]["content"] == "3"
    assert to_messages("x", "de", answer_in_language=False) == ({"role": "user", "content": "x"},)


def test_every_language_of_the_papers_has_its_own_instruction():
    texts = {code: language_instruction(code) for code in {*MDAQ_LANGUAGES, *SPONTANEOUS_LANGUAGES, "zh", "it", "id"}}
    assert len(texts) >= 18
    assert len(set(texts.values())) == len(texts)
    assert [code for code, text in texts.items() if text.startswith("Answer in")] == ["en"]
    assert language_instruction("yo") == "Answer in Yoruba."


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3), st.sampled_from("ab"), st.integers(0, 9)), unique=True)
)
def test_seeds_depend_on_their_request_alone(keys):
    seeds = {key: request_seed(*key) for key in keys}
    assert all(0 <= s < 2**31 for s in seeds.values())
    assert seeds == {key: request_seed(*key) for key in reversed(keys)}
    assert len(set(seeds.values())) == len(keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ["x", None, "y", "z"]}, "'prompt', row 1"),
        ({"prompt": ["x", "y", " ", "z"]}, "'prompt', row 2"),
        ({"language": ["en", "de", "en", "qqq"]}, "'language', row 3: unknown language 'qqq'"),
        ({"prompt_id": ["a", "a", "b", None]}, "'prompt_id', row 3"),
        ({"language": ["en", "de", "en", "en"]}, "row 3: prompt 'b' in 'en' is already in row 2"),
    ],
)
def test_bad_prompts_are_named(changes, message):
    with pytest.raises(DataError, match=message):
        read_prompts(prompts(**changes))


def test_missing_columns_and_bad_last_turn():
    message = "No column for id. Columns found: language, prompt. .*The same prompt needs the same id"
    with pytest.raises(DataError, match=message):
        read_prompts(prompts().remove_columns("prompt_id"))
    table = read_prompts(prompts().rename_column("prompt_id", "q"), {"q": "prompt_id"})
    assert table.ids == PROMPTS["prompt_id"]
    assert table.languages == ["en", "de", "en", "de"]
    turns = [{"role": "assistant", "content": "x"}]
    with pytest.raises(DataError, match="the last message must be the user's"):
        read_prompts(Dataset.from_list([{"prompt_id": 1, "language": "en", "prompt": turns}]))
    with pytest.raises(DataError, match="Expected a datasets.Dataset, got dict"):
        read_prompts({"train": prompts()})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 0}, "n: 0"), ({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"), ({"max_tokens": 0}, "max_tok")],
)
def test_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        sampler(**options)
    with pytest.raises(DataError, match="backend: int"):
        ResponseSampler(3)


# What comes out, and the store


def test_rows_and_order():
    ds = sampler().sample(prompts())
    assert ds.column_names == ["prompt_id", "language", "prompt", "sample", "response", "finish_reason", "model"]
    assert ds["response"][:] == ["a/en/0", "a/en/1", "a/de/0", "a/de/1", "b/en/0", "b/en/1", "b/de/0", "b/de/1"]
    assert ds["prompt"][2] == "Wie geht es dir?"
    assert ds.features["sample"].dtype == "int32"
    assert set(ds["model"]) == {"canned"}


def test_rows_of_conversational_prompts_are_kept():
    turns = [{"role": "user", "content": "Hi"}]
    ds = sampler().sample(Dataset.from_list([{"prompt_id": 7, "language": "en", "prompt": turns}]))
    assert ds[0]["prompt"] == turns
    assert ds[0]["prompt_id"] == 7


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    first = CannedBackend(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        sampler(first).sample(prompts(), tmp_path)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3
    second = CannedBackend()
    ds = sampler(second).sample(prompts(), tmp_path)
    assert [r.key for r in second.asked] == [
        ("a", "de", 1),
        ("b", "en", 0),
        ("b", "en", 1),
        ("b", "de", 0),
        ("b", "de", 1),
    ]
    third = CannedBackend()
    assert sampler(third).sample(prompts(), tmp_path)[:] == ds[:]
    assert third.asked == []
    more = CannedBackend()
    assert len(sampler(more, n=3).sample(prompts(), tmp_path)) == 12
    assert {r.sample for r in more.asked} == {2}
    assert load_dataset(str(tmp_path), split="train").num_rows == 12


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_asked_again(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    whole = sampler(CannedBackend(lambda r: "ü" * (r.sample + 1))).sample(prompts(), folder)
    path = folder / "answers.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    backend = CannedBackend(lambda r: "ü" * (r.sample + 1))
    assert sampler(backend).sample(prompts(), folder)[:] == whole[:]
    assert len(backend.asked) == 8 - data[:-cut].count(b"\n")
    assert sorted(path.read_bytes().splitlines()) == sorted(data.splitlines())


def test_other_parameters_are_not_mixed(tmp_path):
    sampler().sample(prompts(), tmp_path)
    for changed in ({"temperature": 0.5}, {"system_prompt": "x"}, {"seed": 1}, {"answer_in_language": False}):
        backend = CannedBackend()
        with pytest.raises(DataError, match=f"other parameters \\({next(iter(changed))} was"):
            sampler(backend, **changed).sample(prompts(), tmp_path)
        assert backend.asked == []
    with pytest.raises(DataError, match=r"another text of prompt 'a' in 'en'"):
        sampler().sample(prompts(prompt=["New?", *PROMPTS["prompt"][1:]]), tmp_path)


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        sampler().sample(prompts(), tmp_path / "file")
    with pytest.raises(DataError, match="is not empty and holds no samples"):
        sampler().sample(prompts(), tmp_path)
    sampler().sample(prompts(), tmp_path / "run")
    path = tmp_path / "run" / "answers.jsonl"
    path.write_text("{damaged}\n" + path.read_text())
    with pytest.raises(DataError, match="line 1 is damaged"):
        sampler().sample(prompts(), tmp_path / "run")


def test_two_runs_in_one_folder(tmp_path):
    store = AnswerStore(tmp_path, sampler().parameters)
    with store.open(), pytest.raises(DataError, match="another process is writing"):
        sampler().sample(prompts(), tmp_path)


def test_surrogates_reach_the_disk_as_replacement_characters(tmp_path):
    ds = sampler(CannedBackend(lambda r: "a\ud800b")).sample(prompts(), tmp_path)
    assert set(ds["response"]) == {"a\ufffdb"}


def test_failed_answers(tmp_path):
    backend = CannedBackend(fail=lambda r: "too long" if r.key == ("b", "en", 1) else None)
    with pytest.raises(DataError, match=r"1 of 8 answers failed, first sample 1 of prompt 'b' in 'en': too long"):
        sampler(backend).sample(prompts(), tmp_path)
    ds = sampler(backend, allow_missing=True).sample(prompts(), tmp_path)
    assert len(ds) == 7
    assert len(backend.asked) == 9
    with pytest.raises(DataError, match="every request failed"):
        sampler(CannedBackend(fail=lambda r: "no"), allow_missing=True).sample(prompts())


# Transformers


def test_draws_by_hand():
    import torch

    scores = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))

    def drawn(u, temperature=1.0, top_p=1.0):
        return draw_tokens(scores, torch.tensor([[u]]), temperature, top_p).item()

    assert [drawn(u) for u in (0.0, 0.19, 0.21, 0.69, 0.71, 0.9999999)] == [0, 0, 1, 1, 2, 2]
    # Half the temperature squares the odds: 4, 25 and 9 of 38.
    assert [drawn(u, 0.5) for u in (0.1, 0.11, 0.76, 0.77)] == [0, 1, 1, 2]
    # The nucleus of 0.7 is {0.5, 0.3}: 5/8 and 3/8, likeliest first.
    assert [drawn(u, 1.0, 0.7) for u in (0.0, 0.62, 0.63, 0.9999999)] == [1, 1, 2, 2]
    assert [drawn(u, 1.0, 0.4) for u in (0.0, 0.9999999)] == [1, 1]


def test_drawn_frequencies_follow_the_softmax():
    import torch

    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    uniform = torch.linspace(0, 1, 20_001)[:-1, None]
    counts = torch.bincount(draw_tokens(logits.repeat(20_000, 1), uniform, 0.8, 1.0)[:, 0], minlength=4)
    assert np.allclose(counts.numpy() / 20_000, torch.softmax(logits / 0.8, 0).numpy(), atol=2e-4)


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_answers_do_not_depend_on_batches_or_order(build, tmp_path):
    model, tokenizer = build(), byte_tokenizer()
    results = []
    for batch_size, order in ((1, range(4)), (3, (2, 0, 3, 1)), (16, range(4))):
        backend = TransformersBackend(model, tokenizer, batch_size=batch_size)
        ds = sampler(backend, max_tokens=8, top_p=0.9).sample(prompts().select(order))
        results.append({(r["prompt_id"], r["language"], r["sample"]): r["response"] for r in ds})
    assert results[0] == results[1] == results[2]
    assert len(set(results[0].values())) == 8


def test_greedy_answers_equal_generate():
    import torch

    model, tokenizer = tiny_llama(), byte_tokenizer()
    ds = sampler((model, tokenizer), n=1, max_tokens=6, temperature=0).sample(prompts())
    ids = torch.tensor([chat_ids(to_messages(PROMPTS["prompt"][0], "en"), tokenizer)])
    expected = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    assert ds["response"][0] == tokenizer.decode(expected, skip_special_tokens=True).strip()


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_settings_of_the_models_own_config_do_not_change_draws(temperature):
    model, tokenizer = tiny_llama(), byte_tokenizer()
    plain = sampler((model, tokenizer), max_tokens=12, temperature=temperature).sample(prompts())
    own = model.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size, own.min_new_tokens = 5.0, 1, 12
    own.suppress_tokens, own.top_k, own.temperature = list(range(50, 150)), 2, 0.1
    assert sampler((model, tokenizer), max_tokens=12, temperature=temperature).sample(prompts())[:] == plain[:]
    assert model.generation_config is own
    assert own.repetition_penalty == 5.0


def test_finish_reasons_and_the_padding_side():
    model, tokenizer = tiny_llama(), byte_tokenizer()
    tokenizer.padding_side = "right"
    model.generation_config.eos_token_id = list(range(100, 262))
    ds = sampler((model, tokenizer), n=6, max_tokens=3).sample(prompts())
    assert set(ds["finish_reason"]) == {"stop", "length"}
    stopped = ds.filter(lambda r: r["finish_reason"] == "stop")
    assert all(len(r["response"].encode()) <= 9 for r in stopped)
    assert tokenizer.padding_side == "right"


def test_a_prompt_longer_than_the_context_fails_alone():
    model, tokenizer = tiny_llama(context=64), byte_tokenizer()
    ds = prompts(prompt=["Hi", "x" * 100, "Ho", "He"])
    message = r"2 of 8 .*prompt 'a' in 'de': the prompt has 126 tokens; .* room for 60 .*lower max_tokens"
    with pytest.raises(DataError, match=message):
        sampler((model, tokenizer), max_tokens=4).sample(ds)
    assert len(sampler((model, tokenizer), max_tokens=4, allow_missing=True).sample(ds)) == 6


def test_model_by_name_and_its_identity(tmp_path):
    name = saved(tiny_llama(), tmp_path / "model")
    named = sampler(name, max_tokens=5)
    by_name = named.sample(prompts(), tmp_path / "out")
    assert named.sample(prompts(), tmp_path / "out")[:] == by_name[:]  # also once the model is loaded
    by_object = sampler((tiny_llama(), byte_tokenizer()), max_tokens=5).sample(prompts())
    assert by_name["response"][:] == by_object["response"][:]
    tiny_llama(seed=1).save_pretrained(name)
    with pytest.raises(DataError, match="other parameters \\(weights was"):
        sampler(name, max_tokens=5).sample(prompts(), tmp_path / "out")
    with pytest.raises(DataError, match="cannot load"):
        sampler(str(tmp_path / "nothing")).sample(prompts())
    with pytest.raises(DataError, match="tokenizer: a model object"):
        TransformersBackend(tiny_llama())


def test_templates_without_a_system_role_and_tokenizers_without_a_template():
    messages = to_messages("Hi", "en", "Short.", answer_in_language=False)
    refusing = byte_tokenizer(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m['content'] }}]{% endfor %}"
    )
    assert refusing.decode(chat_ids(messages, refusing)) == "[Short.\n\nHi]"
    bare = byte_tokenizer(template=None)
    assert bare.decode(chat_ids(messages, bare)) == "Short.\n\nHi\n\n"


def test_continuous_batching_with_a_bounded_cache():
    backend = TransformersBackend(
        tiny_llama(), byte_tokenizer(), continuous_batching=True, num_blocks=64, page_size=16, max_batch_tokens=128
    )
    greedy = sampler(backend, n=1, max_tokens=6, temperature=0).sample(prompts())
    padded = sampler((tiny_llama(), byte_tokenizer()), n=1, max_tokens=6, temperature=0).sample(prompts())
    assert greedy["response"][:] == padded["response"][:]
    drawn = sampler(backend, n=3, max_tokens=4).sample(prompts())
    assert len(set(drawn["response"])) > 6


# Servers


def server_backend(server: ChatServer, **options) -> ServerBackend:
    return ServerBackend(server.base_url, "tiny", **{"backoff": 0.01, "timeout": 30.0, **options})


def test_a_server_with_a_real_model_gives_what_the_model_gives(online):
    local = sampler((tiny_llama(), byte_tokenizer()), max_tokens=6, top_p=0.9).sample(prompts())
    with ChatServer(model_answers(tiny_llama(), byte_tokenizer())) as server:
        remote = sampler(server_backend(server), max_tokens=6, top_p=0.9).sample(prompts())
    assert remote["response"][:] == local["response"][:]
    assert remote["finish_reason"][:] == local["finish_reason"][:]
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == ("tiny", 0.9, 0.9, 6)
    assert len({b["seed"] for b in server.bodies}) == 8


def test_concurrency_is_bounded(online):
    with ChatServer(delay=0.05) as server:
        sampler(server_backend(server, concurrency=3), n=4).sample(prompts())
    assert server.requests == 16
    assert 2 <= server.most_at_once <= 3


FAULTS = [500, 503, (429, "0"), (429, "Wed, 21 Oct 2015 07:28:00 GMT"), "cut", "truncated", "not_json", "no_choices"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_transient_failures_are_tried_again(online, fault):
    with ChatServer(fault=lambda number, body: fault if number <= 3 else None) as server:
        ds = sampler(server_backend(server, concurrency=1)).sample(prompts())
    assert set(ds["response"]) == {"ok"}
    assert server.requests == 8 + 3


def test_a_hanging_server_times_out_and_is_asked_again(online):
    with ChatServer(fault=lambda number, body: "hang" if number == 2 else None) as server:
        ds = sampler(server_backend(server, timeout=1.0)).sample(prompts())
    assert len(ds) == 8
    assert server.requests >= 9


def test_retry_after_holds_everyone_back(online):
    arrivals = []

    def fault(number, body):
        arrivals.append(time.monotonic())
        return (429, "0.4") if number == 1 else None

    with ChatServer(fault=fault) as server:
        sampler(server_backend(server, concurrency=1), n=1).sample(prompts())
    assert arrivals[1] - arrivals[0] >= 0.39
    assert retry_after("7") == 7
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now=lambda: 1445412479.0) == 1.0
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_a_request_that_is_refused_fails_alone(online, tmp_path):
    def refuse(number, body):
        return 400 if "drei" in body["messages"][0]["content"] else None

    with ChatServer(fault=refuse) as server:
        with pytest.raises(DataError, match=r"2 of 8 answers failed, .*'b' in 'de': HTTP 400.*made-up error"):
            sampler(server_backend(server)).sample(prompts(), tmp_path)
        assert server.requests == 8
        server.fault = lambda number, body: None
        assert len(sampler(server_backend(server)).sample(prompts(), tmp_path)) == 8
        assert server.requests == 10


@pytest.mark.parametrize("status", [401, 404])
def test_hopeless_replies_stop_the_run(online, status):
    stops = pytest.raises(DataError, match=f"base_url: .* answers: HTTP {status}")
    with ChatServer(fault=lambda number, body: status) as server, stops:
        sampler(server_backend(server, concurrency=2), n=20).sample(prompts())
    assert server.requests <= 4


def test_a_server_that_is_down_stops_the_run(online):
    with ChatServer() as server:
        backend = server_backend(server, retries=1, give_up_after=3, concurrency=1)
    with pytest.raises(DataError, match="3 requests in a row failed"):
        sampler(backend, n=50).sample(prompts())


def test_no_saved_token_reaches_a_server(online, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with ChatServer() as server:
        sampler(server_backend(server)).sample(prompts())
    assert {h.get("authorization", h.get("Authorization")) for h in server.headers} == {"Bearer none"}
    with ChatServer(api_key="mine") as server:
        assert len(sampler(server_backend(server, api_key="mine")).sample(prompts())) == 8


def test_offline_mode_is_explained(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with ChatServer() as server, pytest.raises(DataError, match="HF_HUB_OFFLINE=1 keeps"):
        sampler(server_backend(server)).sample(prompts())


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"retries": -1}, {"timeout": 0}])
def test_server_options_out_of_range(options):
    with pytest.raises(DataError, match="must be"):
        ServerBackend("http://127.0.0.1:1/v1", "m", **options)
    with pytest.raises(DataError, match="is no web address"):
        ServerBackend("127.0.0.1:8000", "m")


def test_kill_9_asks_nothing_twice_but_what_was_under_way(tmp_path):
    source, output, concurrency = tmp_path / "prompts.jsonl", tmp_path / "out", 4
    rows = [{"prompt_id": i, "language": code, "prompt": f"Q{i}"} for i in range(10) for code in ("en", "de")]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = textwrap.dedent("""
        import sys
        from hf_mlalign.generation.sampler import sample
        source, output, url = sys.argv[1:]
        done = sample(source, output, model="tiny", base_url=url, n=5, concurrency=4, progress=False)
        print(len(done.dataset))
    """)
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(REPO), "HF_HOME": str(tmp_path / "home")}
    with ChatServer(lambda body: "é" * 2000, delay=0.05) as server:
        command = [sys.executable, "-c", code, str(source), str(output), server.base_url]
        child = subprocess.Popen(command, env=environment)
        while server.answered < 40 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.2)
        before = server.requests
        assert before < 100
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "100"
    asked = Counter((b["messages"][0]["content"], b["seed"]) for b in server.bodies)
    assert len(asked) == 100
    assert server.requests - 100 <= concurrency
    lines = [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]
    assert len({(r["prompt_id"], r["language"], r["sample"]) for r in lines}) == len(lines) == 100
    assert load_dataset(str(output), split="train").num_rows == 100


def test_sample_by_file(tmp_path):
    name = saved(tiny_llama(), tmp_path / "model")
    prompts().to_parquet(str(tmp_path / "prompts.parquet"))
    options = {"model": name, "n": 2, "max_tokens": 4, "progress": False}
    done = sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["German"], limit=1, **options)
    assert [(r["prompt_id"], r["language"]) for r in done.dataset] == [("a", "de"), ("a", "de")]
    assert (done.fresh, done.folder, done.record.state) == (True, tmp_path / "out", "finished")
    assert done.record.results["drawn"] == 2
    counts = {"language": "de", "answers": 2, "prompts": 1, "failed": 0}
    assert counts.items() <= done.per_language().to_dict("records")[0].items()
    again = sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["German"], limit=1, **options)
    assert (again.fresh, again.dataset[:]) == (False, done.dataset[:])
    more = sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["German"], **options)
    assert (more.fresh, len(more.dataset), more.record.results["drawn"]) == (True, 4, 2)
    with pytest.raises(DataError, match=r"no prompts in fr\. There are: de, en"):
        sample(tmp_path / "prompts.parquet", tmp_path / "out", languages=["fr"], **options)
    with pytest.raises(DataError, match="model: name a causal LM"):
        sample(tmp_path / "prompts.parquet", tmp_path / "out")
    with pytest.raises(DataError, match="sample: unknown option 'temprature'. Did you mean 'temperature'"):
        sample(tmp_path / "prompts.parquet", tmp_path / "out", temprature=1.0, **options)


def test_the_card_shows_parameters_and_origins(tmp_path):
    sampler(n=3).sample(prompts(), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "12 answers to 2 prompts in 2 languages, drawn with\nhf_mlalign" in card
    assert "| temperature | `0.9` | authors' script |" in card
    assert "| n | `3` | given |" in card
    assert "license: unknown" in card
    assert "- n<1K" in card
    assert "- sampled-responses" in card


def test_settings_reach_a_backend_of_ones_own():
    seen = []

    class Own(CannedBackend):
        def run(self, requests, settings, on_answer, on_failure):
            seen.append(settings)
            super().run(requests, settings, on_answer, on_failure)

    sampler(Own(), temperature=0.1, top_p=0.2, max_tokens=3).sample(prompts())
    assert seen == [Settings(0.1, 0.2, 3)]
    assert isinstance(Request("a", "en", 0, (), 1, "x").key, tuple)
