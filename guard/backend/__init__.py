"""What runs inside the inference engine, and the real engines it is tested on. Nothing of the sidecar imports it."""
