"""The numbers of the symbols that every target vocabulary begins with."""

PADDING, UNKNOWN, START, END = range(4)
