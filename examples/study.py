"""Two kinds of convolution on a few handwritten digits: which learns more, and what it costs."""

from __future__ import annotations

from omniconv.study import StudySettings, run_study
from omniconv.study.words import say_points, write_paragraph

settings = StudySettings(kinds=("depthwise_separable",), seeds=2, epochs=1, decoder_steps=1, most_images=200)
found = run_study("digits", settings)

standard, separable = found.same_width
assert separable.macs < standard.macs
print(f"{separable.kind}: {standard.macs / separable.macs:.1f} times fewer MACs than {standard.kind}")
print(f"accuracy after one epoch: {say_points(separable.difference)}")
for claim in found.claims:
    print(f"{claim.title} {claim.verdict}. {write_paragraph(claim)}")
