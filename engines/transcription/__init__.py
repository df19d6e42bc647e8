"""Listeners that write down what was said, and what their transcripts are worth."""
