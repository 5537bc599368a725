"""What every layer stands on: errors, configuration, seeds, storage, artifacts. No torch and no Ray here."""
