"""From the stores to batches."""
