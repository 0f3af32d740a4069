"""A model checker for the rules of a lease, which runs the program's own code over a simulated store.

`world` runs actors (greenlets) and decides at each call of the store what happens to it; `search` explores all
decisions, or random ones; `monitor` checks the promises from outside of the explored code; `bugs` are deliberate bugs
that must be found. See docs/reliability.md.
"""
