"""Every kind of convolution, one file each. Standard library only.

:func:`kinds` lists them; each constructor returns a `Conv` or a `Chain`.
"""

from omniconv.kinds.asymmetric import asymmetric
from omniconv.kinds.blueprint_separable import blueprint_separable
from omniconv.kinds.causal import causal
from omniconv.kinds.convolution import convolution
from omniconv.kinds.cross_correlation import cross_correlation
from omniconv.kinds.depthwise import depthwise
from omniconv.kinds.depthwise_separable import depthwise_separable
from omniconv.kinds.dilated import dilated
from omniconv.kinds.factorised import factorised
from omniconv.kinds.flattened import flattened
from omniconv.kinds.grouped import grouped
from omniconv.kinds.mixed import mixed
from omniconv.kinds.pointwise import pointwise
from omniconv.kinds.pointwise_grouped import pointwise_grouped
from omniconv.kinds.registry import ErrorSample, Kind, Sample, kinds
from omniconv.kinds.resize_conv import resize_conv
from omniconv.kinds.shuffled_grouped import shuffled_grouped
from omniconv.kinds.spatially_separable import spatially_separable
from omniconv.kinds.sub_pixel import sub_pixel
from omniconv.kinds.transposed import transposed

__all__ = [
    "ErrorSample",
    "Kind",
    "Sample",
    "asymmetric",
    "blueprint_separable",
    "causal",
    "convolution",
    "cross_correlation",
    "depthwise",
    "depthwise_separable",
    "dilated",
    "factorised",
    "flattened",
    "grouped",
    "kinds",
    "mixed",
    "pointwise",
    "pointwise_grouped",
    "resize_conv",
    "shuffled_grouped",
    "spatially_separable",
    "sub_pixel",
    "transposed",
]

# The imports above give the names their types. A kind whose file is newer than this list is reachable all the same.
globals().update({name: kind.constructor for name, kind in kinds().items()})
