"""The operators by kind; the table over all of them is wsesim_compiler.ops."""
