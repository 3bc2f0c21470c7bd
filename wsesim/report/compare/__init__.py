"""Comparison of reports: what differs in their inputs, and where the cycles went.

saved.py       RunFigures: a report's JSON object, read and checked
inputs.py      what differs in what was run
stages.py      stages and blocks of two placements, matched
comparison.py  Comparison: the differences, whose sums are exact; as JSON and as a pandas frame
tables.py      the tables of `wsesim compare`
"""
