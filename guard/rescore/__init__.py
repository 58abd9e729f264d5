"""Re-scoring: were an answer's tokens computed on the cache that they should have been computed on?"""
