"""Run graphs on the native kernels, a pass as one program. Knows nothing of brands."""
