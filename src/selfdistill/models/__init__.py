"""A chat model's folder: where it is, how it is loaded, and how its chat template turns messages into tokens."""
