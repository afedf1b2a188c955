"""Models to share: folders with a card, models on the Hugging Face Hub, and models by name."""

from memhop.pretrained.mixin import Pretrained

__all__ = ["Pretrained"]
