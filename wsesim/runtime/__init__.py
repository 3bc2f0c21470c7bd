"""Runtime: requests on a simulated wafer. A Scheduler times them in cycles; a TokenLoop generates their text."""
