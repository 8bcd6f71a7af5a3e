"""The demonstration: a trained network tells which way up a page is, run by generated machine code and verified."""
