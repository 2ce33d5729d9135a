//! How much memory the machine has, and how free memory is given back to the system.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Memory is given back at most once in this time, because the call takes some milliseconds.
const EVERY: Duration = Duration::from_secs(60);

/// Gives free memory of glibc's allocator back to the system. librdkafka and Python use that allocator, which has one heap for every few threads
/// (Rust has its own allocator, see allocator.rs). Without this a process grows for hours before it levels off: 1.6 MB a minute in a soak test.
#[derive(Clone, Copy)]
pub(crate) struct GiveBack(Instant);

impl Default for GiveBack {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl GiveBack {
    /// Whether memory must be given back now. If so, the next time is `EVERY` from now.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.0.elapsed() >= EVERY;
        if due {
            self.0 = Instant::now();
        }
        due
    }
}

pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The control group of this process and the groups around it, as paths below the file system of groups. A limit of any of
/// them holds.
fn own_group() -> Vec<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    groups_around(own)
}

fn groups_around(own: &str) -> Vec<String> {
    let mut out = vec![];
    let mut at = own.trim_end_matches('/');
    while let Some((parent, _)) = at.rsplit_once('/') {
        // A path out of the visible tree means the root of the visible tree.
        if !at.contains("..") {
            out.push(at.to_string());
        }
        at = parent;
    }
    out
}

/// Half of the memory that this process may use.
pub(crate) fn half_of_memory() -> usize {
    let number = |text: String| text.split_whitespace().find_map(|w| w.parse::<usize>().ok());
    let read = |path: &str| std::fs::read_to_string(path).ok().and_then(number);
    let machine = read("/proc/meminfo").map(|kb| kb << 10);
    let group = own_group().into_iter().chain([String::new()]).flat_map(|group| {
        let of = |file: &str| read(&format!("/sys/fs/cgroup{group}/{file}"));
        // The newer kind, and the older one, which shows the group itself as the root.
        of("memory.max").into_iter().chain(of("memory/memory.limit_in_bytes"))
    });
    // If the size is unknown, a small machine is assumed.
    machine.into_iter().chain(group).min().unwrap_or(8 << 30) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_every_group_around_the_process_counts() {
        assert_eq!(groups_around("/user.slice/a.service"), ["/user.slice/a.service", "/user.slice"]);
        assert_eq!(groups_around("/"), Vec::<String>::new());
        assert_eq!(groups_around("/../../x"), Vec::<String>::new());
        assert!(half_of_memory() > 0);
    }
}
