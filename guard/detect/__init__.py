"""
Streaming detectors: samples in, readings of named signals out.

Pure, deterministic, bounded in memory, and blind to how a text is cut into chunks: text is
consumed in blocks of `guard.detect.channel.BLOCK` characters counted from the start of the stream.
"""
