"""The engine that works anywhere: eSpeak NG and WORLD."""

SAMPLE_RATE = 24000  # Hz of all that this engine yields and listens to; eSpeak NG's own rate is `espeak.SAMPLE_RATE`
