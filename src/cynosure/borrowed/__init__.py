"""Say what a model of the transformers library attended to, where it is. Knows nothing of our own models."""

from cynosure.borrowed.prompt import Prompt, chat_prompt, text_prompt
from cynosure.borrowed.watching import Seen, watching

__all__ = ["Prompt", "Seen", "chat_prompt", "text_prompt", "watching"]
