"""Multi-hop memory for PyTorch: End-to-End Memory Networks (arXiv 1503.08895)."""

__version__ = "0.1.0"
