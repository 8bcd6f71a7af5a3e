"""The IR builder and what all kernels are written with: vectors, elements, elementary functions, epilogues."""
