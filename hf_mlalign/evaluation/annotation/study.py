"""Who judges what: the order of items and answers for each reader, the overlap, the next item and the one before."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from hf_mlalign.core.errors import DataError
from hf_mlalign.evaluation.annotation.items import PairItem, digest
from hf_mlalign.evaluation.annotation.store import POINT_RANGE, Judgement, JudgementStore

HOLD_SECONDS = 30 * 60
"""How long an item that a reader has open is kept from others (*ours*)."""
MAX_NAME = 64
_SIDES = ("candidate", "baseline")


@dataclass(frozen=True)
class ShownItem:
    """An item as one reader sees it, with only what may be shown.

    Attributes:
        token: stands for the item; says nothing about it.
        answers: answer A and answer B.
        earlier: what the reader said before, in terms of A and B; `None` if nothing.
    """

    token: str
    language: str
    turns: tuple[tuple[str, str], ...]
    answers: tuple[str, str]
    earlier: dict | None


@dataclass(frozen=True)
class Verdict:
    """The judgement of a reader, in terms of answer A and answer B.

    Attributes:
        preference: "a", "b", "tie", "both_bad"; `None`: cannot judge.
        points: for answer A and answer B (quality, culture), from 1 to 5, or `None` where points are not asked for.
    """

    preference: str | None
    points: tuple[tuple[int | None, int | None], tuple[int | None, int | None]] = ((None, None), (None, None))


class Study:
    """Items, readers and judgements of one annotation; safe for threads.

    A share of the items of each language (`overlap`) is shown to every reader, in one order for all, so that agreement
    can be measured early; each other item is shown until `per_item` readers have judged it. Items come in an order of
    each reader's own, and which answer is A is drawn for each reader and item, both from `seed` and the pairs.

    Args:
        items: of `read_items`.
        store: opened.
        seed: of all drawing (0, *ours*).
        per_item: judgements of different readers wanted for an item outside the overlap (1, *ours*).
        overlap: share in [0, 1] (0.2, *ours*); at least one item per language unless 0.
        points: ask for quality and culture points.
    Raises:
        DataError: `per_item` or `overlap` is out of range.
    """

    def __init__(
        self, items: Sequence[PairItem], store: JudgementStore, *, seed: int = 0, per_item: int = 1,
        overlap: float = 0.2, points: bool = True, clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        if per_item < 1:
            raise DataError(f"per_item: {per_item} is less than 1. Use 1 or more.")
        if not 0 <= overlap <= 1:
            raise DataError(f"overlap: {overlap} is not a share between 0 and 1.")
        self.items, self.store, self.per_item, self.points = list(items), store, per_item, points
        self._secret = digest(str(seed), *sorted(item.key for item in items))
        self._by_token = {self._draw("token", item.key): item for item in items}
        self._tokens = {item.key: token for token, item in self._by_token.items()}
        by_language: dict[str, list[str]] = defaultdict(list)
        for item in self.items:
            by_language[item.language].append(item.key)
        shared = []
        for keys in by_language.values():
            number = max(1, round(overlap * len(keys))) if overlap else 0
            shared += sorted(keys, key=lambda key: self._draw("overlap", key))[:number]
        self._shared = dict.fromkeys(sorted(shared, key=lambda key: self._draw("order", key)))
        self._held: dict[str, tuple[str, float]] = {}
        self._lock, self._clock = threading.RLock(), clock
        self._order = lru_cache(maxsize=64)(self._merge_order)
        self._mine: dict[str, dict[str, Judgement]] = defaultdict(dict)
        self._judged: Counter[str] = Counter()
        for judgement in store.latest.values():
            self._remember(judgement)

    @property
    def languages(self) -> dict[str, int]:
        """Language → number of items."""
        return dict(sorted(Counter(item.language for item in self.items).items()))

    def next(self, reader: str, languages: Collection[str]) -> ShownItem | None:
        """The item this reader has open, or the next one; `None` when there is none left for them."""
        with self._lock:
            held = self._held.get(reader, ("",))[0]
            key = None
            for candidate in self._open_keys(reader, frozenset(languages)):
                key = key or candidate
                if candidate == held:
                    key = held
                    break
            if key is None:
                self._held.pop(reader, None)
                return None
            if held != key:
                self._held[reader] = key, self._clock()
            return self._show(reader, self._item(self._tokens[key]))

    def save(self, reader: str, token: str, verdict: Verdict) -> Judgement:
        """Write a judgement down; a later one of the same item replaces it.

        Raises:
            DataError: there is no such item, or the verdict is not complete.
            OSError: it could not be written; nothing has changed.
        """
        item, said = self._item(token), verdict.preference
        if said not in ("a", "b", "tie", "both_bad", None):
            raise DataError(f"preference: {said!r} is not one of a, b, tie, both_bad.")
        low, high = POINT_RANGE
        for point in (point for answer in verdict.points for point in answer):
            if said is not None and self.points and type(point) is not int:
                raise DataError("points: each answer needs points for quality and culture.")
            if point is not None and not (type(point) is int and low <= point <= high):
                raise DataError(f"points: {point!r} is not a whole number from {low} to {high}.")
        sides = self._sides(reader, item)
        points = {
            f"{side}_{kind}": verdict.points[s][k] if said else None
            for s, side in enumerate(sides) for k, kind in enumerate(("quality", "culture"))
        }  # fmt: skip
        with self._lock:
            key, since = self._held.get(reader, ("", 0.0))
            seconds = self._clock() - since if key == item.key else 0.0
            judgement = Judgement(
                item=item.key, annotator=reader, prompt_id=item.prompt_id, language=item.language,
                preference=dict(zip(("a", "b"), sides)).get(said, said), **points, first=sides[0], **item.digests,
                candidate_chars=len(item.candidate), baseline_chars=len(item.baseline), seconds=round(seconds, 2),
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )  # fmt: skip
            self.store.add(judgement)
            self._remember(judgement)
            if key == item.key:
                del self._held[reader]
        return judgement

    def previous(self, reader: str, token: str | None = None) -> ShownItem | None:
        """The item this reader judged before `token`, or last; `None` when there is none."""
        with self._lock:
            judged = list(self._mine[reader])
            key = self._by_token[token].key if token in self._by_token else None
            end = judged.index(key) if key in judged else len(judged)
            return self._show(reader, self._item(self._tokens[judged[end - 1]])) if end else None

    def progress(self, reader: str, languages: Collection[str]) -> tuple[int, int]:
        """(items judged, items judged or still to judge) of a reader in these languages."""
        with self._lock:
            languages = frozenset(languages)
            done = sum(judgement.language in languages for judgement in self._mine[reader].values())
            return done, done + sum(1 for _ in self._open_keys(reader, languages))

    def _draw(self, *parts: str) -> str:
        """A number in hexadecimal that depends on the seed, all pairs and `parts` alone."""
        return digest(self._secret, *parts)

    def _merge_order(self, reader: str, languages: frozenset[str]) -> list[str]:
        """The reader's items, shared and other ones merged evenly; `_order` keeps the last results."""
        language = {item.key: item.language for item in self.items}
        shared = [key for key in self._shared if language[key] in languages]
        others = sorted(
            (item.key for item in self.items if item.language in languages and item.key not in self._shared),
            key=lambda key: self._draw("order", reader, key),
        )
        places = [((i + 0.5) / len(keys), key) for keys in (shared, others) for i, key in enumerate(keys)]
        return [key for _, key in sorted(places)]

    def _open_keys(self, reader: str, languages: frozenset[str]):
        mine, now = self._mine[reader], self._clock()
        held = Counter(
            key for other, (key, since) in self._held.items() if other != reader and now - since < HOLD_SECONDS
        )
        for key in self._order(reader, languages):
            if key not in mine and (key in self._shared or self._judged[key] + held[key] < self.per_item):
                yield key

    def _show(self, reader: str, item: PairItem) -> ShownItem:
        sides, judgement = self._sides(reader, item), self._mine[reader].get(item.key)
        earlier = None
        if judgement:
            said = {sides[0]: "a", sides[1]: "b"}.get(judgement.preference, judgement.preference)
            points = [[getattr(judgement, f"{side}_{kind}") for kind in ("quality", "culture")] for side in sides]
            earlier = {"preference": said, "points": points}
        answers = tuple(getattr(item, side) for side in sides)
        return ShownItem(self._tokens[item.key], item.language, item.turns, answers, earlier)

    def _sides(self, reader: str, item: PairItem) -> tuple[str, str]:
        """("candidate", "baseline"), or the other way round: which answer stands first, and second."""
        return _SIDES[::-1] if int(self._draw("side", reader, item.key), 16) % 2 else _SIDES

    def _item(self, token: str) -> PairItem:
        if token not in self._by_token:
            raise DataError("token: this item does not exist. Load the page again.")
        return self._by_token[token]

    def _remember(self, judgement: Judgement) -> None:
        mine = self._mine[judgement.annotator]
        before = mine.get(judgement.item)
        self._judged[judgement.item] -= before is not None and before.preference is not None
        self._judged[judgement.item] += judgement.preference is not None
        mine[judgement.item] = judgement


def reader_name(text: str) -> str:
    """A reader's name or id as it is kept: NFC, no control characters, single spaces.

    Raises:
        DataError: nothing is left, or more than 64 characters.
    """
    text = "".join(ch if unicodedata.category(ch)[0] != "C" else " " for ch in unicodedata.normalize("NFC", text))
    text = " ".join(text.split())
    if not text or len(text) > MAX_NAME:
        raise DataError(f"name: 1 to {MAX_NAME} characters are needed.")
    return text
