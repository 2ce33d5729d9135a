//! How much memory there is, and memory that is free and not given back.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// So often at most: it takes some milliseconds.
const EVERY: Duration = Duration::from_secs(60);

/// Gives back to the system what glibc's allocator holds without need: that of librdkafka and of Python, with a heap for each few threads
/// (Rust has its own, see allocator.rs). Without this a process grows for hours before it levels off: 1.6 MB a minute in a soak.
#[derive(Clone, Copy)]
pub struct GiveBack(Instant);

impl Default for GiveBack {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl GiveBack {
    /// Whether it is time; the next time is `EVERY` from now.
    pub fn is_due(&mut self) -> bool {
        let due = self.0.elapsed() >= EVERY;
        if due {
            self.0 = Instant::now();
        }
        due
    }
}

pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Half of what this process may have.
pub(super) fn half_of_memory() -> usize {
    let number = |text: String| text.split_whitespace().find_map(|w| w.parse::<usize>().ok());
    let read = |path: &str| std::fs::read_to_string(path).ok().and_then(number);
    let machine = read("/proc/meminfo").map(|kb| kb << 10);
    let group = read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    // Where nothing is known, a small machine.
    machine.into_iter().chain(group).min().unwrap_or(8 << 30) / 2
}
