"""Local training of a cohort: optimisers, weight maps, corrections."""
