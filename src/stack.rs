//! Room for what goes as deep as a text of the user's: parsing, planning, and freeing what came of it.
//!
//! Threads differ: Python's may have 256 KiB, ours have 2 MiB. So whatever walks such a text begins here, on a stack of a known size.
//! With a limit on the text's depth before it, nothing a user writes can end the process.

/// What a walk over a text of the greatest depth that is let through takes, several times over.
const ROOM: usize = 64 << 20;

/// Runs `f` on a stack with room.
pub fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ROOM / 2, ROOM, f)
}
