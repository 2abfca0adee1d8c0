"""What is on disk: arrays, identities, manifests, publishing and reading. Imports nothing of the layers above."""
