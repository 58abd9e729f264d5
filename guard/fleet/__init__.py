"""Which replica an attempt goes to, and which replicas are out of choice. Pure: times are arguments."""
