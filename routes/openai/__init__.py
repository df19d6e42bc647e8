"""OpenAI's speech API below `/v1`, and its addresses without that, which some clients ask for."""
