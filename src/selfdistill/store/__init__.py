"""An experiment's directory: its stages and what they depend on, row files, manifest and identities of content."""
