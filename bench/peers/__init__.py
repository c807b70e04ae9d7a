"""Tessera and four other ways to serve the same model, measured side by side: see `__main__`."""
