"""Did any image change? Records what a service answers to 60 requests, and compares two records.

    python -m tools.answers record http://127.0.0.1:8000 before.json
    python -m tools.answers record http://127.0.0.1:8000 after.json
    python -m tools.answers compare before.json after.json

The requests go through every route that answers with images or describes one, and every model
that ships. Each names its seed, and its upload is drawn here, so that the same code on the same
machine answers with the same bytes.

Record a service that has just been started. One that drew an image before answers from memory,
which gives the same image but no previews of it.
"""
