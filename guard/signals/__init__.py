"""One adapter per engine: from a decoded chunk to token counts and verify steps."""
