"""Energy terms: physics that is added to what the network predicts; see :mod:`carten.physics.term`."""
