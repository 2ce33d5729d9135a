//! A file that says "this query is being run". With this file a second runner is refused early and with a clear message. The
//! file does not decide. The seal decides: it is written by put-if-absent, so only one runner can write it.

use super::Job;
use crate::storage::Location;
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The interval between two beats on disk. In a store, each beat is a request that costs money, whether messages come or not.
const BEAT: Duration = Duration::from_secs(5);
const BEAT_IN_STORE: Duration = Duration::from_secs(15);
/// A beat that is older than this belongs to a run that has died.
const OLD: Duration = Duration::from_secs(60);

fn every(at: &Location) -> Duration {
    if at.is_local() { BEAT } else { BEAT_IN_STORE }
}

const FILE: &str = "heartbeat.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Beat {
    host: String,
    pid: u32,
    /// The start time of the process, in the system's units. It distinguishes a process from a later one with the same pid.
    process_start: Option<u64>,
    run: String,
    beat: u64,
    at: EventTime,
    ended: bool,
}

fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // The boot id distinguishes containers with the same name, and a machine before and after a restart.
    format!("{}/{}", named.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default().trim(), boot.trim())
}

/// Field 22 of /proc/<pid>/stat. None if there is no such process, or no /proc.
fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

async fn read(at: &Location) -> Result<Option<Beat>> {
    Ok(at.get(FILE).await?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Returns an error if a different process runs the query.
pub(super) async fn check(at: &Location, query: &str, clock: &SharedClock) -> Result<()> {
    check_after(every(at) + BEAT, at, query, clock.now()).await
}

/// A runner on a different machine is alive if it writes one more beat within `wait`.
async fn check_after(wait: Duration, at: &Location, query: &str, now: EventTime) -> Result<()> {
    let Some(found) = read(at).await? else { return Ok(()) };
    if found.ended || found.pid == std::process::id() && found.host == host() {
        return Ok(());
    }
    let refuse = |where_: String| {
        Err(Error::concurrent_query(format!(
            "the query '{query}' is being run {where_} (checkpoint {}). Stop that run, or give this query a different query_name and different tables.",
            at.display()
        )))
    };
    if found.host == host() {
        return match process_start(found.pid) {
            Some(start) if Some(start) == found.process_start => {
                refuse(format!("by process {} on this machine", found.pid))
            }
            _ => Ok(()),
        };
    }
    // A damaged file may contain any time, so the subtraction saturates.
    let age = now.0.saturating_sub(found.at.0);
    if age > crate::time::micros(OLD) {
        return Ok(());
    }
    tokio::time::sleep(wait).await;
    match read(at).await? {
        Some(now) if (now.run != found.run || now.beat > found.beat) && !now.ended => {
            refuse(format!("by process {} on {}", now.pid, now.host.split('/').next().unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// Writes beats until it is dropped.
pub(super) struct Heartbeat {
    task: Option<tokio::task::JoinHandle<()>>,
    ended: Arc<Notify>,
    at: Location,
    run: String,
    runtime: tokio::runtime::Handle,
    clock: SharedClock,
}

fn beat(run: &str, beat: u64, ended: bool, at: EventTime) -> Beat {
    let pid = std::process::id();
    Beat { host: host(), pid, process_start: process_start(pid), run: run.into(), beat, at, ended }
}

impl Heartbeat {
    pub(super) fn start(at: &Location, run: &str, job: &Job) -> Self {
        let (runtime, clock) = (&job.runtime, job.clock.clone());
        let (place, name) = (at.clone(), run.to_string());
        let ended = Arc::new(Notify::new());
        let (ending, every) = (ended.clone(), every(at));
        let task = runtime.spawn(async move {
            for n in 0.. {
                if let Ok(bytes) = serde_json::to_vec(&beat(&name, n, false, clock.now())) {
                    let _ = place.put(FILE, bytes).await;
                }
                if tokio::time::timeout(every, ending.notified()).await.is_ok() {
                    break;
                }
            }
        });
        let clock = job.clock.clone();
        Self { task: Some(task), ended, at: at.clone(), run: run.into(), runtime: runtime.clone(), clock }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.ended.notify_one();
        let (at, run, task) = (self.at.clone(), self.run.clone(), self.task.take());
        let clock = self.clock.clone();
        let last = async move {
            // A beat that is still being written must not arrive after the last beat: the file would say that the run continues.
            if let Some(task) = task {
                let _ = task.await;
            }
            // Only the file of this run is changed: a different runner may have taken over meanwhile.
            if read(&at).await.ok().flatten().is_some_and(|b| b.run == run)
                && let Ok(bytes) = serde_json::to_vec(&beat(&run, u64::MAX, true, clock.now()))
            {
                let _ = at.put(FILE, bytes).await;
            }
        };
        // The last beat is always written, or the next run would be refused. The wait is bounded, because a store may be slow.
        let putting = self.runtime.spawn(last);
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), putting).await.ok() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const WAIT: Duration = Duration::from_millis(800);

    async fn put(at: &Location, beat: &Beat) {
        at.put(FILE, serde_json::to_vec(beat).unwrap()).await.unwrap();
    }

    const NOW: EventTime = EventTime(1_700_000_000_000_000);

    fn place() -> (tempfile::TempDir, Location) {
        let folder = tempfile::tempdir().unwrap();
        let at = Location::parse(folder.path().to_str().unwrap(), &Default::default()).unwrap();
        (folder, at)
    }

    /// The parent of this process is a different process that is alive.
    fn of_another_process() -> Beat {
        let pid = std::os::unix::process::parent_id();
        Beat { pid, process_start: process_start(pid), ..beat("theirs", 3, false, NOW) }
    }

    fn elsewhere(run: &str, n: u64) -> Beat {
        Beat { host: "another/boot".into(), pid: 1, ..beat(run, n, false, NOW) }
    }

    async fn is_refused(at: &Location) -> bool {
        match check_after(WAIT, at, "q", NOW).await {
            Ok(()) => false,
            Err(e) => {
                assert_eq!(e.kind, Kind::ConcurrentQuery);
                true
            }
        }
    }

    #[tokio::test]
    async fn a_process_at_work_on_this_machine_is_found_and_one_that_only_has_its_number_is_not() {
        let (_folder, at) = place();
        assert!(!is_refused(&at).await, "nobody runs it");
        put(&at, &of_another_process()).await;
        assert!(is_refused(&at).await);
        put(&at, &Beat { ended: true, ..of_another_process() }).await;
        assert!(!is_refused(&at).await, "it has ended");
        let reused = Beat { process_start: Some(1), ..of_another_process() };
        put(&at, &reused).await;
        assert!(!is_refused(&at).await, "the number is another process's by now");
        put(&at, &beat("ours", 3, false, NOW)).await;
        assert!(!is_refused(&at).await, "our own process");
    }

    #[tokio::test]
    async fn a_runner_elsewhere_is_found_by_a_beat_that_goes_on() {
        let (_folder, at) = place();
        put(&at, &elsewhere("theirs", 100)).await;
        assert!(!is_refused(&at).await, "its heart has stopped");
        // A new run counts its beats again from the start.
        for (run, n, refused) in [("theirs", 101, true), ("theirs", 100, false), ("another", 0, true)] {
            put(&at, &elsewhere("theirs", 100)).await;
            let (later, next) = (at.clone(), elsewhere(run, n));
            let beats = tokio::spawn(async move {
                tokio::time::sleep(WAIT / 20).await;
                put(&later, &next).await;
            });
            assert_eq!(is_refused(&at).await, refused, "{run} {n}");
            beats.await.unwrap();
        }
        let long_ago = EventTime(NOW.0 - crate::time::micros(OLD) - 1);
        put(&at, &Beat { at: long_ago, ..elsewhere("theirs", 100) }).await;
        let asked = std::time::Instant::now();
        assert!(!is_refused(&at).await);
        assert!(asked.elapsed() < WAIT, "an old beat is not waited for");
    }
}
