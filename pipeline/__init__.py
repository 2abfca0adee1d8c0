"""What the stages are made of, in rooms: docs/architecture.md, and tests/test_house.py, which holds them to one way."""
