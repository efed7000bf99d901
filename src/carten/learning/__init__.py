"""Labels by electronic-structure programs, geometries worth labelling, and the loop of active learning."""
