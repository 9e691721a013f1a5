"""Where the cohort is trained."""
