"""The float64 oracle, straight from the taps. Everything compiled is compared with it; it is never fast."""

from omniconv.reference.bounds import accumulate_bound, error_bound
from omniconv.reference.evaluate import reference
from omniconv.reference.weights import Weights, check_input, check_weights, random_weights

__all__ = [
    "Weights",
    "accumulate_bound",
    "check_input",
    "check_weights",
    "error_bound",
    "random_weights",
    "reference",
]
