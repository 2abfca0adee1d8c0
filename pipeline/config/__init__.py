"""The config file's model, loading and schema."""
