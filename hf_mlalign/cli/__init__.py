"""The `hf-mlalign` command."""
