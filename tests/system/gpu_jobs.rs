//! Jobs on GPUs.
