"""A scorer whose arithmetic can be done by hand."""

import numpy as np


class LengthScorer:
    """Instruction and response vectors are (length, number of a's); the score is minus their distance."""

    content_hash = "length-scorer-1"
    embedding_dimension = 2

    def __init__(self):
        self.seen: list[str] = []
        self.encoder = self

    def encode(self, texts):
        self.seen.extend(texts)
        return np.asarray([[len(t), t.count("a")] for t in texts], dtype=np.float32).reshape(-1, 2)

    def encode_instructions(self, texts, embeddings):
        return embeddings

    encode_responses = encode_instructions

    def score_embedded(self, anchors, answers):
        return -np.linalg.norm(anchors - answers, axis=1).astype(np.float32)

    def embeddings_of(self, anchors):
        return anchors
