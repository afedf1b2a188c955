"""Export a text model to files that run without memhop: an ONNX graph, and JSON with its words."""

from memhop.export.files import export_onnx

__all__ = ["export_onnx"]
