"""Resemble AI's Chatterbox. The only package of this server that imports torch and its kin."""
