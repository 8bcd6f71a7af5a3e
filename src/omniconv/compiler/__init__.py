"""From a program to machine code: problems, plans, layouts, kernels, object code."""
