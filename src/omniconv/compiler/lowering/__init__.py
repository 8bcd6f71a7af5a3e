"""What lowerings are written with: layers and families, values in the layout that a step needs, weights, epilogues."""
