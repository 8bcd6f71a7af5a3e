"""From a program to a plan: which family serves a layer, what is fused, where everything lies."""
