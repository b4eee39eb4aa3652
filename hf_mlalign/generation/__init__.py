"""Answers of language models: several per prompt and language, from a local model or a server."""

from hf_mlalign import lazy_names

_NAMES = {
    "sample": "hf_mlalign.generation.sampler",
    "ResponseSampler": "hf_mlalign.generation.sampler",
    "load_backend": "hf_mlalign.generation.sampler",
    "SampleOptions": "hf_mlalign.generation.options",
    "SamplerOptions": "hf_mlalign.generation.options",
    "BackendOptions": "hf_mlalign.generation.options",
    "Backend": "hf_mlalign.generation.requests",
    "Request": "hf_mlalign.generation.requests",
    "Answer": "hf_mlalign.generation.requests",
    "Sampling": "hf_mlalign.generation.requests",
    "ServerBackend": "hf_mlalign.generation.server_backend",
    "TransformersBackend": "hf_mlalign.generation.transformers_backend",
    "Seq2SeqBackend": "hf_mlalign.generation.seq2seq_backend",
    "AnswerStore": "hf_mlalign.generation.store",
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
