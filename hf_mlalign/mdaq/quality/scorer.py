"""The Quality Scoring Model of M-DaQ: score(instruction, response) = −‖v_instruction − v_response‖₂."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from hf_mlalign.core.errors import DataError
from hf_mlalign.core.validation import as_texts, has_text
from hf_mlalign.mdaq.quality.accuracy import evaluate_pairs
from hf_mlalign.mdaq.quality.head import HeadShape, QualityHead, negative_distance
from hf_mlalign.models.encoder import BUNDLED, MAX_CHARS, Encoder, load_encoder, model_hash
from hf_mlalign.models.loading import load_errors

__all__ = ["QualityScorer", "evaluate_pairs"]

KIND = "a quality model"
MODEL_TYPE = "hf_mlalign_quality_head"
FORMAT = 1
"""Version of the saved files and of the arithmetic; part of the pickled state, so that a change invalidates caches."""
WEIGHTS, CONFIG = "quality.safetensors", "config.json"
_CHUNK = 8192


class QualityScorer:
    """Scores how good a response is for an instruction, in any language that the encoder supports.

    There are two kinds with one interface. A *head* model (such as the bundled one) adds two small towers to a frozen
    encoder, see `QualityHead`: v_instruction depends on the instruction alone, v_response on the response alone. A
    *plain* model is any encoder, whose unit-length vectors are used directly; train it with the paper's triplet loss,
    see `hf_mlalign.launch.train_qsm`. Scores are ≤ 0, higher is better; those of a plain model are in [−2, 0].

    The object is pickled as its name, the hash of its files, its version and options, never as a loaded model. If it
    was trained and not saved, the arrays of its head are pickled; a plain model must be saved first.

    Create one with `QualityScorer.load`.
    """

    def __init__(
        self, name: str | Path | Encoder | None = None, *, device: str | None = None, batch_size: int | None = None
    ):
        self.name = str(name) if isinstance(name, (str, Path)) else name
        self.device, self.batch_size = device, batch_size
        self._head: QualityHead | None = None
        self._encoder: Encoder | None = None
        self._base: str | None = None
        self._trained = False
        self._config = _read_config(self._folder)

    @classmethod
    def load(
        cls, name: str | Path | Encoder | None = None, device: str | None = None, batch_size: int | None = None
    ) -> QualityScorer:
        """The scorer called `name`.

        Args:
            name: `None` for the bundled model (offline); a folder saved by `save`; the name or folder of any
                sentence-transformers or Hugging Face encoder (a plain model); or an `Encoder`.
            device: "cpu", "cuda", …; default: a GPU if there is one.
            batch_size: texts per batch of the encoder; default: the encoder's own.
        Raises:
            DataError: the folder's weights are damaged or belong to another encoder or version.
        """
        scorer = cls(name, device=device, batch_size=batch_size)
        if scorer._config is not None:
            scorer._load_head()
        return scorer

    def __getstate__(self) -> dict:
        state: dict[str, Any] = {
            "name": self.name, "device": self.device, "batch_size": self.batch_size, "base": self._base,
            "content": self.content_hash, "format": FORMAT,
        }  # fmt: skip
        if self._trained:
            if self._head is None:
                raise DataError("QualityScorer: a trained plain model exists only in memory. Save it, then load it.")
            state["head"] = (self._head.shape.to_dict(), self._head.arrays)
        return state

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["name"], device=state["device"], batch_size=state["batch_size"])
        self._base = state["base"]
        if "head" in state:
            shape, arrays = state["head"]
            self._head, self._trained = QualityHead(HeadShape.from_dict(shape), arrays), True

    @property
    def content_hash(self) -> str:
        """Hash of everything a score depends on: head, encoder, version."""
        parts = [str(FORMAT), _encoder_hash(self._encoder_name())]
        if self._trained and self._head is not None:
            parts += [array.tobytes().hex() for _, array in sorted(self._head.arrays.items())]
        elif self._config is not None:
            parts.append(model_hash(self._folder))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    @property
    def has_head(self) -> bool:
        """Whether this is a head model (or else a plain one)."""
        return (self._trained and self._head is not None) or self._config is not None

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use."""
        if self._encoder is None:
            name = self._encoder_name()
            options = {"device": self.device, "batch_size": self.batch_size}
            self._encoder = load_encoder(name, **options) if name is None or isinstance(name, str) else name
        return self._encoder

    @property
    def embedding_dimension(self) -> int:
        """Length of the encoder's vectors."""
        return self.encoder.dimension

    def encode_instructions(self, texts: Sequence[str], embeddings: np.ndarray | None = None) -> np.ndarray:
        """Vectors of n instructions (input appended), float32. For a head model: the encoder's vector followed by
        v_instruction. For a plain one: the encoder's vector, which is v_instruction. See `embeddings_of`.

        Args:
            texts: texts that are not empty or blank.
            embeddings: the encoder's unit-length vectors, (n, d), if you have them.
        """
        embeddings = self.encoder.encode(list(texts)) if embeddings is None else embeddings
        if not self.has_head:
            return embeddings
        vectors = _chunked(self._load_head().instruction_vectors, embeddings, texts, self._head.width)
        return np.concatenate([embeddings, vectors], axis=1)

    def encode_responses(self, texts: Sequence[str], embeddings: np.ndarray | None = None) -> np.ndarray:
        """v_response of n responses, float32; see `encode_instructions`."""
        embeddings = self.encoder.encode(list(texts)) if embeddings is None else embeddings
        if not self.has_head:
            return embeddings
        return _chunked(self._load_head().response_vectors, embeddings, texts, self._head.width)

    def embeddings_of(self, instructions: np.ndarray) -> np.ndarray:
        """The encoder's (n, d) vectors inside those of `encode_instructions`, for clustering."""
        return instructions[:, : self.embedding_dimension] if self.has_head else instructions

    def score_embedded(self, instructions: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """−‖v_instruction − v_response‖₂ of n rows of `encode_instructions` and `encode_responses`, (n,) float32."""
        if self.has_head:
            instructions = instructions[:, -self._load_head().width :]
        return negative_distance(instructions, responses)

    def score(
        self, instructions: Sequence[str | None], responses: Sequence[str | None], batch_size: int = 65_536
    ) -> np.ndarray:
        """Quality of each response for its instruction, (n,) float32, ≤ 0, higher is better.

        NaN if the instruction or the response is None, empty or blank. Each distinct text of a batch is encoded once.

        Args:
            instructions: n texts, with their input appended after a blank line, as in training.
            responses: n texts.
            batch_size: rows whose vectors are in memory at a time.
        Raises:
            DataError: different lengths, or a value is neither text nor None.
        """
        instructions = as_texts(instructions, "instructions", missing=True)
        responses = as_texts(responses, "responses", missing=True)
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise DataError(f"batch_size: {batch_size!r}. Give a whole number of at least 1.")
        if len(instructions) != len(responses):
            raise DataError(f"score: {len(instructions)} instructions but {len(responses)} responses. Pass pairs.")
        scores = np.full(len(responses), np.nan, np.float32)
        rows = [i for i, (a, b) in enumerate(zip(instructions, responses)) if has_text(a) and has_text(b)]
        for begin in range(0, len(rows), batch_size):
            part = rows[begin : begin + batch_size]
            anchors = _once(self.encode_instructions, [instructions[i] for i in part])
            scores[part] = self.score_embedded(anchors, _once(self.encode_responses, [responses[i] for i in part]))
        return scores

    def train(
        self,
        instructions: Sequence[str],
        positives: Sequence[str],
        negatives: Sequence[str],
        *,
        groups: Sequence[int] | None = None,
        settings: Any = None,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> QualityScorer:
        """Train a new head on the frozen encoder with the paper's triplet loss; returns this scorer, which uses it.

        (To train a whole transformer, see `hf_mlalign.mdaq.quality.finetuning.finetune`.)

        Args:
            instructions, positives, negatives: n texts each: the anchor, the better and the worse response.
            groups: n values; rows with the same value are one sample in several languages (may be left out).
            settings: a `hf_mlalign.mdaq.quality.training.HeadTraining`.
            on_epoch: called with (epoch, mean loss) of the first member.
        Raises:
            DataError: a text is missing or blank, the lengths differ, or there is no row.
        """
        from hf_mlalign.mdaq.quality.accuracy import check_triplets
        from hf_mlalign.mdaq.quality.training import HeadTraining, TripletInputs, train_head

        check_triplets(instructions, positives, negatives)
        settings = settings or HeadTraining()
        encoder_hash = _encoder_hash(self._encoder_name())
        cut = [[text[:MAX_CHARS] for text in texts] for texts in (instructions, positives, negatives)]
        inputs = TripletInputs.build(lambda t: _once(self.encoder.encode, t), *cut, groups, settings.seed)
        head = train_head(inputs, settings, on_epoch)
        if _encoder_hash(self._encoder_name()) != encoder_hash:
            raise DataError(f"train: the encoder's files in {self._encoder_name()} have changed. Train again.")
        self._base = self._encoder_name() if isinstance(self._encoder_name(), str) else self._base
        self._head, self._trained = head, True
        return self

    def save(self, folder: str | Path, card: str | None = None) -> Path:
        """Write the scorer to `folder`; `QualityScorer.load(folder)` gives the same scores.

        A head model: config.json and quality.safetensors; its encoder is named (bundled or Hub) or copied (local). A
        plain model: a sentence-transformers folder. `card` becomes README.md.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not self.has_head:
            self.encoder.model.save_pretrained(str(folder), create_model_card=False)
        else:
            from safetensors.numpy import save_file

            head, name = self._load_head(), self._encoder_name()
            if name is not None and not isinstance(name, str):
                kind = type(name).__name__
                raise DataError(f"save: the encoder is a {kind} in memory. Use a named encoder or a folder.")
            bundled = name is None or Path(name).resolve() == (BUNDLED / "encoder").resolve()
            encoder = None if bundled else name
            if encoder is not None and Path(name).is_dir():
                encoder = "./encoder"
                if Path(name).resolve() != (folder / "encoder").resolve():
                    shutil.copytree(name, folder / "encoder", dirs_exist_ok=True)
            config = {
                "model_type": MODEL_TYPE, "format": FORMAT, "encoder": encoder, "encoder_hash": _encoder_hash(name),
                "shape": head.shape.to_dict(),
            }  # fmt: skip
            save_file(head.arrays, folder / WEIGHTS)
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")
        return folder

    def push_to_hub(self, repo_id: str, private: bool = True, token: str | None = None) -> str:
        """Upload the files of `save` as a model repository; returns its address. To load it, download the folder.

        Raises:
            DataError: the Hub cannot be reached, refuses the token, or the name is not valid.
        """
        import tempfile

        from hf_mlalign.hub.repository import upload

        with tempfile.TemporaryDirectory() as folder:
            card = self._folder / "README.md" if self._folder else None
            self.save(folder, card.read_text(encoding="utf-8") if card and card.is_file() else None)
            return upload(folder, repo_id, "model", private=private, token=token)

    @property
    def _folder(self) -> Path | None:
        if self.name is None:
            return BUNDLED / "qsm"
        return Path(self.name) if isinstance(self.name, str) and Path(self.name).is_dir() else None

    def _encoder_name(self) -> str | Encoder | None:
        """What `load_encoder` is given: None is the bundled encoder."""
        if self._base is not None:
            return self._base
        if self._config is None:
            return self.name
        name = self._config["encoder"]
        return str(self._folder / "encoder") if name == "./encoder" else name

    def _load_head(self) -> QualityHead:
        if self._head is None:
            from safetensors.numpy import load_file

            found, wanted = _encoder_hash(self._encoder_name()), self._config["encoder_hash"]
            if found != wanted:
                raise DataError(
                    f"{self._folder}: this quality model was trained on another encoder (hash {wanted}, not {found}). "
                    "Train it again: python -m hf_mlalign.launch.train_qsm --data … --output …"
                )
            with load_errors(self._folder, KIND):
                arrays = load_file(self._folder / WEIGHTS)
                self._head = QualityHead(HeadShape.from_dict(self._config["shape"]), arrays)
        return self._head

def _read_config(folder: Path | None) -> dict | None:
    """The head's config.json in `folder`; None where the folder holds a plain encoder or is none."""
    file = folder / CONFIG if folder else None
    if file is None or not file.is_file():
        return None
    with load_errors(folder, KIND):
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.get("model_type") != MODEL_TYPE:
            return None
    if config.get("format") != FORMAT:
        raise DataError(f"{file}: format {config.get('format')}, this version reads {FORMAT}. Train the model again.")
    return config


def _encoder_hash(name: str | Encoder | None) -> str:
    if name is not None and not isinstance(name, str):
        return str(getattr(name, "content_hash", type(name).__qualname__))
    return model_hash(BUNDLED / "encoder" if name is None else name)


def _chunked(function: Callable, embeddings: np.ndarray, texts: Sequence[str], width: int) -> np.ndarray:
    out = np.empty((len(texts), width), np.float32)
    for begin in range(0, len(texts), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        out[part] = function(embeddings[part], [text[:MAX_CHARS] for text in texts[part]])
    return out


def _once(encode: Callable[[list[str]], np.ndarray], texts: Sequence[str]) -> np.ndarray:
    """`encode(texts)`, in which each distinct text is encoded once."""
    place: dict[str, int] = {}
    index = [place.setdefault(text, len(place)) for text in texts]
    return encode(list(place))[index]
