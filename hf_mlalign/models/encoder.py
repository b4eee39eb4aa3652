"""Text encoders: a protocol, an implementation on SentenceTransformer, and a cache of vectors."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_texts, clean_text
from hf_mlalign.models.loading import sentence_transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUNDLED = Path(__file__).parent / "bundled"
MAX_CHARS = 20_000
"""Texts are cut after this many characters before they are encoded (*ours*: about 5,000 tokens)."""


@runtime_checkable
class Encoder(Protocol):
    """Any object with `encode(texts) -> (n, d) float32` and a `dimension` is an encoder."""

    dimension: int

    def encode(self, texts: Sequence[str]) -> np.ndarray: ...


def load_encoder(name: str | Path | Encoder | None = None, **options) -> Encoder:
    """The encoder called `name`.

    Args:
        name: `None` for the bundled multilingual model (offline), a local folder, a Hub model
            (e.g. "intfloat/multilingual-e5-large"), or an `Encoder`, which is returned unchanged.
        **options: see `SentenceEncoder`.
    """
    if name is not None and not isinstance(name, (str, Path)):
        if not isinstance(name, Encoder):
            raise DataError(f"model: {type(name).__name__} has no encode() and dimension. Pass a model name instead.")
        return name
    return SentenceEncoder(name, **options)


class SentenceEncoder:
    """A SentenceTransformer that loads on first use, is pickled as its name and content hash, and is safe in forks.

    Args:
        name: model folder or Hub name; `None` for the bundled model.
        batch_size: texts per batch; default 4,096 for static models and 32 for transformers (*ours*).
        device: "cpu", "cuda", …; default: a GPU if there is one.
        prompt: text to put before every input, e.g. "query: " for the E5 models.
        revision: Hub revision.
        max_chars: texts are cut after this many characters, see `MAX_CHARS`.
    """

    def __init__(
        self,
        name: str | Path | None = None,
        *,
        batch_size: int | None = None,
        device: str | None = None,
        prompt: str = "",
        revision: str | None = None,
        max_chars: int = MAX_CHARS,
    ):
        self.name = str(name) if name is not None else str(BUNDLED / "encoder")
        self.batch_size, self.device, self.prompt = batch_size, device, prompt
        self.revision, self.max_chars = revision, max_chars
        self._model: SentenceTransformer | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_model": None, "_content": self.content_hash}

    def __setstate__(self, state: dict) -> None:
        state.pop("_content", None)
        self.__dict__.update(state)

    @property
    def content_hash(self) -> str:
        """Hash of the model's files, or of name and revision for a Hub model."""
        return model_hash(self.name, self.revision)

    @property
    def model(self) -> SentenceTransformer:
        """The SentenceTransformer itself."""
        limit_threads_in_child()
        if self._model is None:
            self._model = sentence_transformer(self.name, device=self.device, revision=self.revision)
        return self._model

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], show_progress: bool = False) -> np.ndarray:
        """Unit-length embeddings, (n, d) float32; the zero vector for a text without tokens."""
        texts = as_texts(texts, "texts")
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        is_static = type(self.model[0]).__name__ == "StaticEmbedding"
        vectors = self.model.encode(
            [self.prompt + clean_text(text[: self.max_chars]) for text in texts],
            batch_size=self.batch_size or (4096 if is_static else 32),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=show_progress,
        )
        return np.nan_to_num(np.asarray(vectors, dtype=np.float32), copy=False)


class EmbeddingCache:
    """Caches vectors of texts: a text is not encoded again while its vector is kept.

    Args:
        encode: function from a list of n texts to an (n, d) array.
        max_bytes: beyond this size, the oldest vectors are dropped (256 MiB, *ours*).
    """

    def __init__(self, encode: Callable[[list[str]], np.ndarray], max_bytes: int = 256 * 2**20):
        self._encode, self._max_bytes, self._bytes = encode, max_bytes, 0
        self._slots: dict[str | bytes, np.ndarray] = {}
        self._batches: deque[tuple[list, int]] = deque()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d) array of the texts' vectors; each distinct text that is not in the cache is encoded once."""
        texts = as_texts(texts, "texts")
        keys = [
            text if len(text) <= 64 else hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            for text in texts
        ]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._slots}
        if new:
            vectors = np.asarray(self._encode(list(new.values())))
            if len(vectors) != len(new):
                raise DataError(f"model: the encoder returned {len(vectors)} vectors for {len(new)} texts.")
            self._slots.update(zip(new, vectors, strict=True))
            self._batches.append((list(new), vectors.nbytes))
            self._bytes += vectors.nbytes
        out = np.stack([self._slots[key] for key in keys]) if keys else self._encode([])
        while self._bytes > self._max_bytes and len(self._batches) > 1:
            old, size = self._batches.popleft()
            self._bytes -= size
            for key in old:
                del self._slots[key]
        return out


def limit_threads_in_child() -> None:
    """Use one thread in a process forked by `datasets.map(num_proc=…)`: torch's thread pool does not survive a fork."""
    import multiprocess

    if multiprocess.parent_process() is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch

        torch.set_num_threads(1)


def model_hash(name: str | Path, revision: str | None = None) -> str:
    """Hash of a local model folder's files (names and bytes), or of a Hub model's name and revision."""
    folder = Path(name)
    if not folder.is_dir():
        return hashlib.sha256(f"{name}@{revision or 'main'}".encode()).hexdigest()[:32]
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md")
    return _files_hash(tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files), str(folder))


@lru_cache(maxsize=64)
def _files_hash(files: tuple[tuple[str, int, int], ...], folder: str) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(str(Path(path).relative_to(folder)).encode())
        with open(path, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:32]
