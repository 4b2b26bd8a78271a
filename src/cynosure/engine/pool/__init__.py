"""Say which models an engine process serves, and what each is. Knows nothing of tensors."""

from cynosure.engine.pool.card import ModelCard, ModelRole, ServedModel
from cynosure.engine.pool.settings import PoolSettings

__all__ = ["ModelCard", "ModelRole", "PoolSettings", "ServedModel"]
