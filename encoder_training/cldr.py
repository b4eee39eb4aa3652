"""Reads names from the Unicode Common Locale Data Repository through babel: places, languages, dates, currencies."""

from __future__ import annotations

from collections import defaultdict

from encoder_training.catalogues import LANGUAGES

LOCALES = {"tl": "fil"}


def read_cldr() -> list[dict[str, str]]:
    """Groups {language: name} of territories, languages, scripts, currencies, months and weekdays."""
    import babel

    groups: dict[tuple, dict[str, str]] = defaultdict(dict)
    for language in LANGUAGES:
        locale = babel.Locale.parse(LOCALES.get(language, language))
        for key, name in _names(locale):
            groups[key].setdefault(language, name)
    return [group for group in groups.values() if "en" in group and len(group) > 1]


def _names(locale):
    for kind in ("territories", "languages", "scripts", "currencies"):
        for code, name in getattr(locale, kind).items():
            yield (kind, code), name
    for kind in ("months", "days"):
        for number, name in getattr(locale, kind)["format"]["wide"].items():
            yield (kind, number), name
