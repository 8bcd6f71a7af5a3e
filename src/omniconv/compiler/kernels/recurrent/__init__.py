"""Recurrent layers: the product with the state before, the gates and the new state, time after time."""
