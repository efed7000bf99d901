"""Models in simulation engines: speed, and an example of path integrals."""
