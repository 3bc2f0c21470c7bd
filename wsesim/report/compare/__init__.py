"""Comparison of reports: what differs in their inputs, and where the cycles went.

saved.py       RunFigures: a report's JSON object, read and checked
inputs.py      what differs in what was run
stages.py      stages and blocks of two placements, matched
pairs.py       Pair: a run beside another; differences whose sums are exact
tables.py      the tables of `wsesim compare`
comparison.py  Comparison: all runs beside the first; as text, JSON and a pandas frame
"""
