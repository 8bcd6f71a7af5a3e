"""Networks in float32 become networks in integers of 8 bits."""

from omniconv.quantization.options import QuantOptions
from omniconv.quantization.report import LayerReport, Quantized, QuantReport
from omniconv.quantization.run import quantize, quantize_with_report

__all__ = ["LayerReport", "QuantOptions", "QuantReport", "Quantized", "quantize", "quantize_with_report"]
