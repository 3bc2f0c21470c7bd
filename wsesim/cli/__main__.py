"""`python -m wsesim.cli`."""

from wsesim.cli import script

if __name__ == "__main__":
    script()
