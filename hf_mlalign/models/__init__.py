"""Models: text encoders, safe loading of weights, and clustering of embeddings."""

from hf_mlalign import lazy_names

_NAMES = {
    "load_encoder": "hf_mlalign.models.encoder",
    "Encoder": "hf_mlalign.models.encoder",
    "SentenceEncoder": "hf_mlalign.models.encoder",
    "EmbeddingCache": "hf_mlalign.models.encoder",
    "load_model": "hf_mlalign.models.loading",
    "load_causal_lm": "hf_mlalign.models.loading",
    "cluster": "hf_mlalign.models.clustering",
    "cluster_by_language": "hf_mlalign.models.clustering",
    "coverage": "hf_mlalign.models.clustering",
    "default_n_clusters": "hf_mlalign.models.clustering",
    "Clustering": "hf_mlalign.models.kmeans",
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
