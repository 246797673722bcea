"""`make demo`: the whole job once, by commands that a person would type, on text that CPython carries."""
