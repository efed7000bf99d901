"""Tensors in Cartesian space: bases, products, index symmetries, quadratures and radial functions."""
