"""The OpenAI Images contract, so that its official clients work unchanged."""
