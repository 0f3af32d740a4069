"""Explores the rules of a lease: the program's own code over a simulated store, through all that can happen.

`world` runs actors (greenlets with the program's own holder, standby, leases and rules) and asks at each call of
the store what becomes of it; `search` goes through all answers, or random ones; `monitor` checks the promises from
outside of the code that is explored; `bugs` are deliberate bugs that must be found. See docs/reliability.md.
"""
