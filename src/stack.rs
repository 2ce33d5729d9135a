//! A large stack for code whose depth follows a text that the user wrote: parsing, planning, and dropping the result.
//!
//! Threads have different stacks: Python's can have 256 KiB, ours have 2 MiB. So every walk over such a text begins
//! here, on a stack of a known size. The depth of the text is limited before. So nothing that a user writes can end the
//! process.

/// Several times the stack that a walk over the deepest allowed text needs.
const ROOM: usize = 64 << 20;

/// Runs `f` on a large stack.
pub(crate) fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ROOM / 2, ROOM, f)
}
