"""What a machine is: instruction sets, caches, and the choice of a target to compile for."""
