"""From a description to machine code: program, layouts, schedules, kernels, object code."""
