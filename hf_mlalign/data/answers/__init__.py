"""Reading the final answer of a response, in any of the languages: options, numbers, marked answers."""
