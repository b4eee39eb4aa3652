"""The same transforms on Ray Data: score, cluster, select and build pairs on a cluster, with one process's results.

Importing this loads neither Ray nor a model. `pip install 'hf-mlalign[ray]'`.
"""

from hf_mlalign.cmalign.ray.pairing import build_pairs
from hf_mlalign.data.ray_tables import ROW, number_rows, to_dataset
from hf_mlalign.mdaq.ray.engine import RayEngine
from hf_mlalign.mdaq.ray.scoring import score
from hf_mlalign.mdaq.ray.selecting import cluster, select

__all__ = ["ROW", "RayEngine", "build_pairs", "cluster", "number_rows", "score", "select", "to_dataset"]
