"""Chat models: where they are, how they are loaded, and how their chat templates turn messages into tokens."""
