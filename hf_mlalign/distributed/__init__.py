"""The same transforms on Ray Data: score, cluster, select and build pairs on a cluster, with one process's results.

Importing this loads neither Ray nor a model. `pip install 'hf-mlalign[ray]'`.
"""

from hf_mlalign.distributed.engine import RayEngine
from hf_mlalign.distributed.pairing import build_pairs
from hf_mlalign.distributed.scoring import score
from hf_mlalign.distributed.selecting import cluster, select
from hf_mlalign.distributed.tables import ROW, number_rows, to_dataset

__all__ = ["ROW", "RayEngine", "build_pairs", "cluster", "number_rows", "score", "select", "to_dataset"]
