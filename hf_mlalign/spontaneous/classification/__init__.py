"""Few-shot classification by constrained decoding."""
