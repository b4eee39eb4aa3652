"""Answers of servers that fail on purpose."""

import time

import pytest

from hf_mlalign.core.errors import DataError
from hf_mlalign.generation.server_backend import ServerBackend, retry_after
from tests.generation.canned import prompts, sampler
from tests.servers import ChatServer, model_answers
from tests.tiny_models import byte_tokenizer, tiny_llama


@pytest.fixture
def online(monkeypatch):
    """huggingface_hub refuses loopback, too, in offline mode."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


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
    with pytest.raises(DataError, match="is not a web address"):
        ServerBackend("127.0.0.1:8000", "m")
