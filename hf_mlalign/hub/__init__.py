"""Run folders with their records and cards, and uploads to the Hub."""

from hf_mlalign import lazy_names

_NAMES = {
    "push": "hf_mlalign.hub.publish",
    "Pushed": "hf_mlalign.hub.publish",
    "PushOptions": "hf_mlalign.core.options",
    "PublishOptions": "hf_mlalign.core.options",
    "RunResult": "hf_mlalign.hub.run_record",
    "RunRecord": "hf_mlalign.hub.run_record",
    "Run": "hf_mlalign.hub.run_record",
    "read_record": "hf_mlalign.hub.run_record",
    "report_run": "hf_mlalign.hub.trackers",
    "write_card": "hf_mlalign.hub.card",
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
