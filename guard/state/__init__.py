"""What the guards of a fleet share: budget, quality, ejections, baselines, recent verdicts."""
