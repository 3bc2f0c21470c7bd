"""expand: kernels of a block -> TaskGraph. The only place where cost is written."""
