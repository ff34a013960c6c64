"""Times of single kernels of accelerators against measurements: products, attention, others."""
