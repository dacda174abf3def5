"""The limits under an injected clock: rules one by one, random histories, and mutations that these must catch."""
