"""What a layer or a network costs, sees, covers and connects; every figure agrees with brute force."""

from omniconv.analysis.axis_field import AxisField, PhaseField
from omniconv.analysis.connectivity import Connectivity, Repair, connectivity, least_layers
from omniconv.analysis.cost import Cost, LayerCost, Machine, cost
from omniconv.analysis.coverage import AxisCoverage, Coverage, coverage, dilated_stack, find_rule, suggest_rates
from omniconv.analysis.cp import Flattened, flatten
from omniconv.analysis.effective import EffectiveField, effective_field, measured_field
from omniconv.analysis.factorise import Factorised, factorise
from omniconv.analysis.findings import TOPICS, Finding, find_findings, find_stacks, last_spatial
from omniconv.analysis.overlap import Overlap, count_image, count_phases, overlap, overlaps
from omniconv.analysis.receptive_field import ReceptiveField, fitting_program, receptive_field
from omniconv.analysis.record import Record
from omniconv.analysis.remedies import Remedy, find_remedies, icnr
from omniconv.analysis.required import RequiredInput, required_input
from omniconv.analysis.separability import Separability, Unfolding, separability
from omniconv.analysis.streaming import AxisStreaming, streaming
from omniconv.analysis.support import find_support
from omniconv.analysis.tiling import AxisTiling, Tiling, tiling
from omniconv.program.steps.conv import count_executed

__all__ = [
    "TOPICS",
    "AxisCoverage",
    "AxisField",
    "AxisStreaming",
    "AxisTiling",
    "Connectivity",
    "Cost",
    "Coverage",
    "EffectiveField",
    "Factorised",
    "Finding",
    "Flattened",
    "LayerCost",
    "Machine",
    "Overlap",
    "PhaseField",
    "ReceptiveField",
    "Record",
    "Remedy",
    "Repair",
    "RequiredInput",
    "Separability",
    "Tiling",
    "Unfolding",
    "connectivity",
    "cost",
    "count_executed",
    "count_image",
    "count_phases",
    "coverage",
    "dilated_stack",
    "effective_field",
    "factorise",
    "find_findings",
    "find_remedies",
    "find_rule",
    "find_stacks",
    "find_support",
    "fitting_program",
    "flatten",
    "icnr",
    "last_spatial",
    "least_layers",
    "measured_field",
    "overlap",
    "overlaps",
    "receptive_field",
    "required_input",
    "separability",
    "streaming",
    "suggest_rates",
    "tiling",
]
