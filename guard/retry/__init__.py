"""What may be retried, how, and what changes: pure decisions."""
