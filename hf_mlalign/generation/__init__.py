"""Drawing answers from language models: requests, a store that survives a kill, local models and servers."""
