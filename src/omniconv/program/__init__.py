"""What is to be computed, before any decision: steps, programs, and the passes over them."""
