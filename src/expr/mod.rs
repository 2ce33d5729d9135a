//! SQL text to physical expressions.
