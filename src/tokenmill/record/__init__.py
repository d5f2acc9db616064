"""What happened, durably: one SQLite file a run, one writer, and whole files that leave it."""
