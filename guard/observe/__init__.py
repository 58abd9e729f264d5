"""Metrics, logs and records of what the exchanges did."""
