"""T3: text to speech tokens, upstream's weights in a decode loop of our own."""
