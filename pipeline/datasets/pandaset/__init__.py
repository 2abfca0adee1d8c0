"""PandaSet: 103 sequences of two lidars and six cameras."""
