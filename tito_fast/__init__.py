"""Train and sample generative surrogates of molecular dynamics."""
