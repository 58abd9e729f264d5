"""
YAML policies: loading with exact complaints, and turning readings into verdicts.

Pure, and blind to the detectors: the catalogue of signals is handed in.
"""
