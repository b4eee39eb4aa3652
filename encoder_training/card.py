"""Text of the encoder's model card."""

# ruff: noqa: E501
SOURCES_AND_LICENCES = """\
| source | what | licence |
|---|---|---|
| revisions, paragraphs | Alpaca samples before and after expert revision (CoachLM) and their translations (MIDB) | Apache-2.0; Alpaca CC BY-NC 4.0 |
| prompts | Alpagasus prompts, machine-translated (Alpaca) | CC BY-NC 4.0 |
| x_alpacaeval | X-AlpacaEval prompts | CC BY-NC 4.0 (AlpacaEval data) |
| snli, questions | SNLI texts and their translations; GSM8K questions | CC BY-SA 4.0; MIT |
| reviews | Amazon review polarity, translated | as the original data set |
| tatoeba | Tatoeba sentence pairs | CC BY 2.0 FR |
| browser | Chromium and Firefox/Thunderbird interface texts | BSD-3-Clause; MPL-2.0 |
| help | LibreOffice help; GNOME, MATE and KDE manuals; GIMP help; Debian handbook, guides and FAQ | MPL-2.0; CC BY-SA 3.0; GFDL; GPL-2+ |
| story | Battle for Wesnoth and Widelands texts | GPL-2+ |
| interface | gettext and Qt catalogues of about 150 free programs | GPL, LGPL, MIT and similar, each as its program |
| names, cldr | iso-codes; Unicode CLDR | LGPL-2.1+; Unicode-3.0 |
| dictionary, pivot | FreeDict dictionaries; EDICT (JMdict) | GPL-2+/GPL-3+/CC BY-SA 3.0; CC BY-SA |
| news, lexicon | sentences and word lists written for this project | as the project |
"""

CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
license: cc-by-nc-4.0
language: [{languages}]
tags: [sentence-transformers, feature-extraction, sentence-similarity, static-embedding]
---
# hf_mlalign's multilingual encoder

A table of {vocabulary:,} token vectors of {dimension} dimensions (eight bits each). The vector of a text is the mean of its token
vectors, scaled to unit length. It runs on a CPU, offline, in a few microseconds per token. Open it with
`SentenceTransformer(folder)`; sentence-transformers 6 or later reads the eight-bit table.

Use it to find texts that say the same in English and in ja ko ru pt el fr de es ar tl ms nl pl tr vi th hi sw (id, it and zh
were trained with half the weight). It ignores word order and nearly ignores negation, and is weak on rare names and on words
outside its training text. A transformer encoder is much better where you can use one.

## Held-out figures
Top-1 retrieval of a text's English translation among up to 1,000 English texts of the same source, with training texts as
distractors.
{remark}

{figures}

## Training
Symmetric contrastive loss with in-batch negatives over pairs of parallel texts; short texts of one source are joined into
longer ones; Greek, Cyrillic and Katakana are read as Latin letters. Settings: {settings}.
Command: `python -m encoder_training.train --data DATA --catalogues PACKAGES --extra dataset_scripts/parallel_text
--output DIR` (see `docs/encoder.md`).

## Sources and licences
{sources}
Alpaca-derived rows carry CC BY-NC 4.0, hence the licence of these weights. No gold answers, and no row of MGSM, were used.
The licences of 25 of the packages were read in their copyright files; the other entries are what the projects are known to use:
check them before you use the weights commercially or under another licence.

Training groups by source: {counts}.
"""
