"""Hyperband: the space of a search, its brackets and draws, the queue of its rounds, and what came of it.

space = read("space.yaml")                                 # space.py, flags.py: the file
rounds = brackets(space.R, space.eta)                      # brackets.py: whole numbers alone
space.words(bracket=3, index=17)                           # draws.py: the flags of a run
queue = Rounds(Search(space, jobs), retries=2)             # rounds.py: which runs go on
"""
