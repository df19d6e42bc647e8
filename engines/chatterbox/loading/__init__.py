"""From files to upstream's modules and tokenizers, without the network."""
