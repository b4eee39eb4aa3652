"""The words that announce a final answer, by language, and the option letters of several scripts."""

ANSWER_WORDS: dict[str, tuple[str, ...]] = {
    "en": ("final answer", "correct answer", "correct option", "answer", "correct choice"),
    "de": ("antwort", "richtige option", "lösung", "ergebnis"),
    "fr": ("réponse", "reponse", "bonne option", "option correcte"),
    "es": ("respuesta", "opción correcta", "solución"),
    "pt": ("resposta", "opção correta", "alternativa correta"),
    "it": ("risposta", "opzione corretta"),
    "nl": ("antwoord", "juiste optie"),
    "pl": ("odpowiedź", "odpowiedz", "poprawna opcja"),
    "cs": ("odpověď",),
    "tr": ("cevap", "yanıt", "doğru seçenek"),
    "ru": ("ответ", "правильный вариант"),
    "el": ("απάντηση", "σωστή επιλογή"),
    "ar": ("الإجابة", "الاجابة", "إجابة", "الجواب", "جواب"),
    "fa": ("پاسخ", "جواب"),
    "hi": ("उत्तर", "जवाब"),
    "bn": ("উত্তর", "জবাব"),
    "te": ("సమాధానం", "జవాబు"),
    "th": ("คำตอบ", "ตอบ"),
    "vi": ("đáp án", "câu trả lời", "trả lời", "đáp số"),
    "id": ("jawaban",),
    "ms": ("jawapan",),
    "tl": ("sagot", "kasagutan"),
    "sw": ("jibu", "jawabu"),
    "ja": ("最終的な答え", "答え", "回答", "解答", "正解", "答"),
    "zh": ("最终答案", "正确答案", "答案", "回答", "正确选项", "答"),
    "ko": ("최종 답", "정답", "답변", "답"),
    "sv": ("svar",),
    "no": ("svar",),
    "sl": ("odgovor",),
    "bg": ("отговор",),
    "is": ("svar",),
}
"""ISO 639-1 code → words. Every text is searched for all of them, because models mix languages."""

LETTER_SERIES = ("ABCDEFGHIJ", "АБВГДЕЖЗИК", "ΑΒΓΔΕΖΗΘΙΚ", "أبجدهوزحطي", "कखगघङ", "কখগঘঙ", "กขคงจ",
                 "가나다라마", "甲乙丙丁戊",
                 "①②③④⑤⑥⑦⑧⑨⑩")  # fmt: skip
"""Option labels by script, in the order in which options are listed; the n-th becomes the n-th Latin letter."""

LOOK_ALIKES = str.maketrans("АВСЕНΑΒΕΗ", "ABCEHABEH")
"""Cyrillic and Greek capitals that look like Latin ones, for questions whose options are Latin."""

VARIANTS = {"ا": "أ", "ﺃ": "أ"}

EQUALS_WORDS = (r"\bis\b", r"\bwas\b", r"\bist\b", r"\best\b", r"\bes\b", r"\bé\b", r"\bè\b", r"\bto\b", r"\bjest\b",
                r"\bni\b", r"\bay\b", r"\badalah\b", r"\bialah\b", r"\blà\b", r"\bείναι\b",
                "は", "是", "为", "為", "는", "은",
                "คือ", "هي", "هو", "है", "হল", "হলো")  # fmt: skip
"""Words that may stand between an answer word and the answer, besides a colon."""
