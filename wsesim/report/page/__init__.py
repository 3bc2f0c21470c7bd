"""The report as one HTML file: its contents as values, packed arrays of every PE, and the page that shows them."""
