"""What a plan comes to: partitions, files, bytes, hours and memory, against what is free. Start with `estimate.py`."""
