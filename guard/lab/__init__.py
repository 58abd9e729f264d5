"""Real backends, real faults and real measurements for trying the guard out."""
