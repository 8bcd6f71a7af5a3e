"""What lowerings are written with: layers and families, values in the layouts needed, weights, epilogues, copies."""
