"""Recipes that make the models which tests and figures need. Knows nothing of serving."""

from cynosure.train.corpus import Corpus, read_corpus
from cynosure.train.tiny_text import Recipe, Trained, train

__all__ = ["Corpus", "Recipe", "Trained", "read_corpus", "train"]
