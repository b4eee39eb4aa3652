"""The encoder's training: readers of translation files, mixture, tokenizer, a toy model."""

import random
import struct
import zipfile

import numpy as np
import pytest

from encoder_training import catalogues, formats
from encoder_training.config import EncoderConfig
from encoder_training.files import quantise, retrieval_accuracy, save_encoder
from encoder_training.mixture import trim_sources
from encoder_training.parallel_text import alternatives, hold_out, read_tables, split_paragraphs
from encoder_training.train import fit, gather_sources, main, make_parser
from hf_mlalign.core.errors import DataError


def mo_bytes(messages: dict[str, str]) -> bytes:
    texts = [text.encode() for pair in zip(messages, messages.values(), strict=True) for text in pair]
    at = 28 + 16 * len(messages)
    places = []
    for text in texts:
        places.append(struct.pack("<2I", len(text), at))
        at += len(text) + 1
    header = struct.pack("<7I", formats.MO_MAGIC, 0, len(messages), 28, 28 + 8 * len(messages), 0, at)
    return header + b"".join(places[::2] + places[1::2]) + b"".join(text + b"\0" for text in texts)


def pak_bytes(strings: dict[int, str], aliases: dict[int, int]) -> bytes:
    texts = [text.encode() for text in strings.values()]
    begin = 12 + 6 * (len(texts) + 1) + 4 * len(aliases)
    offsets = [begin + sum(map(len, texts[:at])) for at in range(len(texts) + 1)]
    table = b"".join(struct.pack("<HI", r, o) for r, o in zip([*strings, 0], offsets, strict=True))
    extra = b"".join(struct.pack("<HH", *pair) for pair in aliases.items())
    return struct.pack("<IIHH", 5, 1, len(texts), len(aliases)) + table + extra + b"".join(texts)


def qm_bytes(messages: dict[str, str]) -> bytes:
    block = b""
    for source, target in messages.items():
        encoded = target.encode("utf-16-be")
        block += b"\x03" + struct.pack(">I", len(encoded)) + encoded
        block += b"\x06" + struct.pack(">I", len(source)) + source.encode() + b"\x01"
    return formats.QM_MAGIC + struct.pack(">BI", 0x42, 0) + struct.pack(">BI", 0x69, len(block)) + block


def test_mo_drops_context_and_splits_plurals():
    data = mo_bytes({"": "header", "menu\x04Open": "Abrir", "%d file\0%d files": "%d archivo\0%d archivos"})
    assert formats.read_mo(data) == {"Open": "Abrir", "%d file": "%d archivo", "%d files": "%d archivos"}


def test_pak_with_alias():
    assert formats.read_pak(pak_bytes({7: "Fungua", 9: "Funga"}, {11: 1})) == {7: "Fungua", 9: "Funga", 11: "Funga"}


def test_qm():
    assert formats.read_qm(qm_bytes({"Moon": "Σελήνη", "Sun": "Ήλιος"})) == {"Moon": "Σελήνη", "Sun": "Ήλιος"}


@pytest.mark.parametrize("reader", [formats.read_mo, formats.read_pak, formats.read_qm])
def test_other_files_are_refused(reader):
    with pytest.raises(DataError):
        reader(b"not a catalogue at all, only text")


def test_ftl_attributes_continuations_and_selectors():
    text = "# note\nopen = Open the file\n    .title = A title\nlong =\n    one\n    two\n-brand = Name\n"
    assert formats.read_ftl(text) == {
        "open": "Open the file", "open.title": "A title", "long": "one two", "-brand": "Name"}  # fmt: skip


def test_properties_with_escapes():
    assert formats.read_properties("# c\na=caf\\u00e9\nb = x\\\n  y\n") == {"a": "café", "b": "xy"}


def test_dictionaries():
    assert list(formats.read_dictd("abrupt /x/\n\n1. κοφτός, απότομος\n")) == [
        ("abrupt", "κοφτός"), ("abrupt", "απότομος")]  # fmt: skip
    assert list(formats.read_edict("犬 [いぬ] /(n) dog/(P)/EntL1/\n珍 [ちん] /(n) rare/\n")) == [("犬", "dog")]


def test_blocks_keep_ids_and_lose_tags():
    markup = '<!-- <p>no</p> --><p id="a1">One <b>two</b> &amp; three</p><script><p>x</p></script><li>four</li>'
    assert formats.read_blocks(markup) == [("a1", "One two & three"), ("", "four")]


@pytest.mark.parametrize(
    ("code", "language"),
    [("pt_BR", "pt"), ("fil", "tl"), ("hi-IN", "hi"), ("C", "en"), ("el.UTF-8", "el"), ("ast", None), ("xx", None)],
)
def test_language_of(code, language):
    assert catalogues.language_of(code) == language


def test_clean_removes_placeholders_and_accelerators():
    assert catalogues.clean("_Open %s in <b>{app}</b>…") == "Open in"


def test_catalogue_folder(tmp_path):
    mo = tmp_path / "program/usr/share/locale/el/LC_MESSAGES/program.mo"
    mo.parent.mkdir(parents=True)
    mo.write_bytes(mo_bytes({"Open the file": "Άνοιγμα αρχείου"}))
    for language, text in (("el", "Γεια σου κόσμε"), ("C", "Hello world")):
        page = tmp_path / f"manual/usr/share/help/{language}/app/index.page"
        page.parent.mkdir(parents=True)
        page.write_text(f"<page><title>{text}</title></page>", "utf-8")
    for language, text in (("tl", "Buksan ang file"), ("en-GB", "Open the file")):
        with zipfile.ZipFile(tmp_path / f"manual/langpack-{language}@firefox.xpi", "w") as archive:
            archive.writestr(f"localization/{language}/a.ftl", f"open = {text}\n")
    found = catalogues.read_catalogues(tmp_path, log=lambda line: None)
    assert found["interface"] == [{"en": "Open the file", "el": "Άνοιγμα αρχείου"}]
    assert found["help"] == [{"en": "Hello world", "el": "Γεια σου κόσμε"}]
    assert found["browser"] == [{"en": "Open the file", "tl": "Buksan ang file"}]
    with pytest.raises(DataError, match="is not a folder"):
        catalogues.read_catalogues(tmp_path / "nowhere")


def test_alternatives_and_tables(tmp_path):
    assert alternatives({"en": "car", "sw": "gari / motokaa"}) == [
        {"en": "car", "sw": "gari"}, {"en": "car", "sw": "motokaa"}]  # fmt: skip
    (tmp_path / "a_lexicon.tsv").write_text("en\tsw\ncar\tgari / motokaa\n", "utf-8")
    (tmp_path / "a_sentences.tsv").write_text("en\tsw\tel\nIt rains.\tMvua inanyesha.\t\n", "utf-8")
    tables = read_tables(tmp_path)
    assert tables["news"] == [{"en": "It rains.", "sw": "Mvua inanyesha."}]
    assert len(tables["lexicon"]) == 2
    (tmp_path / "b_lexicon.tsv").write_text("en\tsw\ncar\n", "utf-8")
    with pytest.raises(DataError, match="line 2 has 1 cells"):
        read_tables(tmp_path)


def test_paragraphs_of_languages_with_as_many():
    group = {"en": "a\n\nb", "de": "c\nd", "fr": "e"}
    assert split_paragraphs(group) == [{"en": "a", "de": "c"}, {"en": "b", "de": "d"}]


def test_held_out_english_is_in_no_training_source():
    news = [{"en": f"Sentence {at}", "sw": f"Sentensi {at}"} for at in range(10)]
    train, held = hold_out({"news": news, "tatoeba": [{"en": "sentence 4", "el": "πρόταση"}, *news[5:8]]})
    assert [group["en"] for group in held["news"]] == ["Sentence 4", "Sentence 9"]
    assert len(train["news"]) == 8
    assert all(group["en"].lower() != "sentence 4" for group in train["tatoeba"])


def test_dictionary_keeps_words_that_occur():
    story = [{"en": "the old house", "de": "das alte Haus"}] * 3
    words = [{"en": "house", "de": "Haus"}, {"en": "zymurgy", "de": "Zymurgie"}]
    assert trim_sources({"story": story, "dictionary": words})["dictionary"] == words[:1]


def toy_sources(groups: int = 300, seed: int = 0):
    """English words and the same words spelt backwards, twelve drawn for each text."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij", k=5)) for _ in range(120)]
    drawn = [rng.choices(words, k=12) for _ in range(groups)]
    return {"tatoeba": [{"en": " ".join(d), "sw": " ".join(w[::-1] for w in d)} for d in drawn]}


TOY = EncoderConfig(vocabulary=400, dimension=32, steps=60, batch=64, learning_rate=0.05)


def test_toy_model_learns_twice_the_same_and_loads(tmp_path):
    from sentence_transformers import SentenceTransformer

    sources = toy_sources()
    train = {"tatoeba": sources["tatoeba"][:240]}
    table, tokenizer = fit(train, TOY, log=lambda line: None)
    again, _ = fit(train, TOY, log=lambda line: None)
    assert np.array_equal(table, again)
    assert retrieval_accuracy(sources["tatoeba"][240:], [], table, tokenizer)["sw"] > 0.9
    folder = save_encoder(table, tokenizer, tmp_path / "encoder")
    model = SentenceTransformer(str(folder), device="cpu")
    english, swahili, empty = model.encode([sources["tatoeba"][0]["en"], sources["tatoeba"][0]["sw"], ""])
    assert english @ swahili > 0.8
    assert np.linalg.norm(english) == pytest.approx(1, abs=1e-5)
    assert not empty.any()


def test_quantise_rounds_to_half_a_step():
    table = np.array([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0]], np.float32)
    rows, factors = quantise(table)
    assert rows.dtype == np.int8
    assert rows[0, 0] == 127
    assert np.abs(rows * factors[:, None] - table).max() <= factors[0] / 2


def test_folding_brings_names_together():
    from encoder_training.tokenizer import build_normalizer

    fold = build_normalizer(True).normalize_str
    assert [fold(name) for name in ("Οσάκα", "Осака", "オサカ", "Osaka")] == ["osaka"] * 4
    assert fold("أُعلِنَ") == "اعلن"
    assert fold("Nguyễn") == "nguyễn"


def test_command_line(tmp_path):
    rows = toy_sources()["tatoeba"]
    table = "\n".join(["en\tsw", *(f"{row['en']}\t{row['sw']}" for row in rows)])
    (tmp_path / "toy_sentences.tsv").write_text(table, "utf-8")
    figures = main(
        ["--extra", str(tmp_path), "--output", str(tmp_path / "out"), "--vocabulary", "400", "--dimension", "32",
         "--steps", "60", "--batch", "64", "--learning-rate", "0.05"]
    )  # fmt: skip
    assert figures["news"]["sw"] > 0.9
    assert "| sw |" in (tmp_path / "out/README.md").read_text("utf-8")
    assert "--catalogues" in make_parser().format_help()
    with pytest.raises(DataError, match="nothing to train on"):
        gather_sources(None, None, None)
