"""The dashboard: a page without a build step, and what it is told."""
