"""Who holds what: partitions, cohorts, per-client state."""
