"""Reading data: sources, layouts, roles of columns, languages, final answers."""

from hf_mlalign import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Layout": "hf_mlalign.data.layouts",
        "LanguageIdentifier": "hf_mlalign.data.languages",
        "MDAQ_LANGUAGES": "hf_mlalign.data.languages",
        "SPONTANEOUS_LANGUAGES": "hf_mlalign.data.languages",
        "check_languages": "hf_mlalign.data.languages",
        "extract_answers": "hf_mlalign.data.answers.extract",
        "language_name": "hf_mlalign.data.languages",
        "load_demo_pool": "hf_mlalign.data.demo_pool",
        "load_source": "hf_mlalign.data.sources",
        "load_splits": "hf_mlalign.data.sources",
        "normalise": "hf_mlalign.data.languages",
        "recognise_layout": "hf_mlalign.data.layouts",
    },
)
