"""What every layer stands on: errors, configuration, seeds, storage and artifacts. Neither torch nor Ray is imported here."""
