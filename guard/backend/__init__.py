"""The backend plugin: what the guard adds inside the inference engine. Nothing of the sidecar imports it."""
