"""Reports: a model or a layer with everything that is known about it, as records, pictures and one HTML page."""

from omniconv.report.comparison import Alternative, LayerComparison, LayerSizes, compare_kinds
from omniconv.report.findings import find_all
from omniconv.report.inspection import Inspection, Times, inspect_program
from omniconv.report.layers import LayerRow, as_roofline
from omniconv.report.spectra import LayerSpectrum, find_spectra

__all__ = [
    "Alternative",
    "Inspection",
    "LayerComparison",
    "LayerRow",
    "LayerSizes",
    "LayerSpectrum",
    "Times",
    "as_roofline",
    "compare_kinds",
    "find_all",
    "find_spectra",
    "inspect_program",
]
