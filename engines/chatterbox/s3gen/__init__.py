"""S3Gen: speech tokens to samples, upstream's weights, batched and streamed."""
