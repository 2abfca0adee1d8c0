"""One module per stage: a thin click command that reads its inputs, calls pipeline and writes its outputs."""
