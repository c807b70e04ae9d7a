"""What clients send as pictures: decoded within limits, fitted to a model, kept where it was kept.

Pure functions of bytes, free of HTTP, of the engine and of torch. They take from a millisecond to
seconds, so call them off the event loop.
"""
