"""Weight gradients: products of an input and a gradient, summed over positions and images."""
