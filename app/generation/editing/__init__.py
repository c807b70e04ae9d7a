"""Uploads: decoded within limits, fitted to a model, kept where they are to be kept.

Pure functions of bytes, free of HTTP, of the engine and of torch. They take from a millisecond to
seconds: call them off the event loop.
"""
