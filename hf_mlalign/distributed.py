"""The transforms on Ray Data: score, cluster, select and build pairs on a cluster, with the results of one process.

Importing this loads neither Ray nor a model. To install Ray: `pip install 'hf-mlalign[ray]'`.
"""

from hf_mlalign import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ROW": "hf_mlalign.data.ray_tables",
        "RayEngine": "hf_mlalign.mdaq.ray.engine",
        "build_pairs": "hf_mlalign.cmalign.ray.pairing",
        "cluster": "hf_mlalign.mdaq.ray.selecting",
        "number_rows": "hf_mlalign.data.ray_tables",
        "score": "hf_mlalign.mdaq.ray.scoring",
        "select": "hf_mlalign.mdaq.ray.selecting",
        "to_dataset": "hf_mlalign.data.ray_tables",
    },
)
