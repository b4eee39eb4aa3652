"""Reports of runs on one page: `write_report` makes it, `section` adds to it."""

from hf_mlalign import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(
            ("Chart", "Example", "Examples", "Facts", "Numbers", "ReportedRun", "section"), "hf_mlalign.report.registry"
        ),
        "ReportOptions": "hf_mlalign.report.options",
        "write_report": "hf_mlalign.report.page",
    },
)
