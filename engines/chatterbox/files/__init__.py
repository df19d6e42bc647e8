"""Where weights are: a folder, the Hugging Face cache, the hub. No torch here."""
