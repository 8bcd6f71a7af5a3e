"""Networks in float32 become networks in integers of 8 bits."""

from omniconv.quantization.options import QuantOptions
from omniconv.quantization.report import PRECISIONS, LayerReport, Quantized, QuantReport
from omniconv.quantization.run import quantize, quantize_with_report
from omniconv.quantization.sensitive import find_sensitive_layers

__all__ = [
    "PRECISIONS",
    "LayerReport",
    "QuantOptions",
    "QuantReport",
    "Quantized",
    "find_sensitive_layers",
    "quantize",
    "quantize_with_report",
]
