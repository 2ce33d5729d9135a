//! Named crash points. A test can end this process directly before or after a durable step, like SIGKILL or a power
//! cut. Or it can suspend the process there until it gets a signal, like a suspended machine.
//!
//! The points are the durable calls to a store (see `guard`) and the calls of users' functions. Their names come from
//! the operation and the path, not from the code that makes the call. So a new step gets a point without further work.
//! While no test uses the points, a point costs one load of a flag.

use object_store::path::Path;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static WATCHED: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<Points> =
    Mutex::new(Points { armed: BTreeMap::new(), slow: BTreeMap::new(), seen: BTreeMap::new() });

struct Points {
    /// How many more times the point is passed before the action happens.
    armed: BTreeMap<String, (u64, What)>,
    /// Points with a delay.
    slow: BTreeMap<String, Duration>,
    seen: BTreeMap<String, u64>,
}

/// The action at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The process ends at once.
    Crash,
    /// The process stops until it gets SIGCONT.
    Pause,
}

/// The action happens when the point is passed for the `nth` time from now on (1 is the next time). 0 removes the
/// point.
pub(crate) fn at(point: &str, nth: u64, what: What) {
    let mut points = POINTS.lock();
    match nth {
        0 => drop(points.armed.remove(point)),
        _ => drop(points.armed.insert(point.into(), (nth, what))),
    }
    WATCHED.store(true, Ordering::Relaxed);
}

/// Delays the store at a point, like a slow store far away. Zero removes the delay.
pub(crate) fn slow_at(point: &str, how_long: Duration) {
    let mut points = POINTS.lock();
    match how_long.is_zero() {
        true => drop(points.slow.remove(point)),
        false => drop(points.slow.insert(point.into(), how_long)),
    }
    WATCHED.store(true, Ordering::Relaxed);
}

/// The points that were passed, and how often. They are counted from the first call of this function or of `at`.
pub(crate) fn seen() -> BTreeMap<String, u64> {
    WATCHED.store(true, Ordering::Relaxed);
    POINTS.lock().seen.clone()
}

/// A step that is not a call to a store.
pub(crate) fn pass(what: &str, when: &str) {
    if WATCHED.load(Ordering::Relaxed) {
        reach(format!("{what}.{when}"));
    }
}

pub(crate) fn before(operation: &str, path: &Path) {
    if WATCHED.load(Ordering::Relaxed) {
        reach(format!("{}.before", name(operation, path)));
    }
}

pub(crate) fn after(operation: &str, path: &Path) {
    if WATCHED.load(Ordering::Relaxed) {
        reach(format!("{}.after", name(operation, path)));
    }
}

/// Waits for the delay that `slow_at` has set for the point.
pub(super) async fn linger(operation: &str, path: &Path, when: &str) {
    if WATCHED.load(Ordering::Relaxed) {
        let slow = POINTS.lock().slow.get(&format!("{}.{when}", name(operation, path))).copied();
        if let Some(how_long) = slow {
            tokio::time::sleep(how_long).await;
        }
    }
}

fn reach(point: String) {
    let mut points = POINTS.lock();
    let mut happens = None;
    if let Some((left, what)) = points.armed.get_mut(&point) {
        *left = left.saturating_sub(1);
        happens = (*left == 0).then_some(*what);
    }
    if happens == Some(What::Crash) {
        // Prints which of several points it was. Nothing is unwound, flushed or dropped, and other threads end where
        // they are.
        let _ = writeln!(std::io::stderr(), "crash point {point}");
        std::process::abort();
    }
    if happens.is_some() {
        points.armed.remove(&point);
    }
    *points.seen.entry(point).or_default() += 1;
    drop(points);
    if happens == Some(What::Pause) {
        // Sending a signal from here would need unsafe code. The parent of the shell is this process.
        let _ = std::process::Command::new("sh").args(["-c", "kill -STOP $PPID"]).status();
        // The signal takes effect a moment later. The next step must not begin before that.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The name of a file's kind, by the layout in docs/format.md and Delta's layout: "seal", "commit:<table>",
/// "state:increment", "remove:probe".
fn name(operation: &str, path: &Path) -> String {
    let parts: Vec<String> = path.parts().map(|p| p.as_ref().to_string()).collect();
    let at = |back: usize| parts.len().checked_sub(back).and_then(|i| parts.get(i)).map_or("", String::as_str);
    let file = at(1);
    let numbered = |ending: &str| {
        file.strip_suffix(ending).is_some_and(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let kind = || file.split('-').nth(1).unwrap_or_default();
    let what = match (at(2), file) {
        ("_delta_log", "_last_checkpoint") => format!("last-checkpoint:{}", at(3)),
        ("_delta_log", "00000000000000000000.json") => format!("create:{}", at(3)),
        ("_delta_log", _) if numbered(".json") => format!("commit:{}", at(3)),
        ("_delta_log", _) if file.ends_with(".parquet") => format!("checkpoint:{}", at(3)),
        ("definition", _) => "definition".into(),
        ("epoch", _) if numbered(".json") => "seal".into(),
        ("done", _) if numbered(".json") => "done".into(),
        (_, _) if file.starts_with("probe-") => "probe".into(),
        (_, "query.json" | "start.json" | "heartbeat.json" | "reset.json") => file.trim_end_matches(".json").into(),
        (_, _) if file.starts_with("iterator-") => "iterator".into(),
        (table, _) if file.ends_with(".arrow") && kind() == "rows" => format!("staged:{table}"),
        (_, _) if file.ends_with(".arrow") => format!("state:{}", kind()),
        (_, _) if at(4) == "staged" && file.ends_with(".parquet") => format!("staged:{}", at(3)),
        (_, _) if file.ends_with(".parquet") => {
            // Between a table and its files there are the folders of partitions.
            let table = parts.iter().rev().skip(1).find(|p| !p.contains('='));
            format!("data:{}", table.map_or("", String::as_str))
        }
        _ => "other".into(),
    };
    if operation == "delete" { format!("remove:{what}") } else { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_after_what_a_file_is() {
        let named = |path: &str| name("create", &Path::from(path));
        let n = "00000000000000000007";
        assert_eq!(named(&format!("lake/_bayou/q/1/epoch/{n}.json")), "seal");
        assert_eq!(named(&format!("lake/_bayou/q/1/done/{n}.json")), "done");
        assert_eq!(named("lake/_bayou/q/1/definition/9dcec8.json"), "definition");
        assert_eq!(named(&format!("lake/_bayou/q/1/state/per_minute/{n}-increment-904bedeb.arrow")), "state:increment");
        assert_eq!(named(&format!("lake/_bayou/q/1/state/per_minute/{n}-base-904bedeb.arrow")), "state:base");
        assert_eq!(named(&format!("lake/_bayou/q/1/staged/totals/{n}-rows-904bedeb.arrow")), "staged:totals");
        assert_eq!(
            named("lake/_bayou/q/staged/clean/00000000000000000007-904bedeb/part-00000-x.parquet"),
            "staged:clean"
        );
        assert_eq!(named("lake/clean/_delta_log/00000000000000000000.json"), "create:clean");
        assert_eq!(named(&format!("lake/clean/_delta_log/{n}.json")), "commit:clean");
        assert_eq!(named(&format!("lake/clean/_delta_log/{n}.checkpoint.parquet")), "checkpoint:clean");
        assert_eq!(named("lake/clean/day=1/model=a/part-00000-x.parquet"), "data:clean");
        assert_eq!(named("lake/_bayou/q/query.json"), "query");
        assert_eq!(named("lake/_bayou/q/probe-5a5d"), "probe");
        assert_eq!(name("delete", &Path::from("lake/_bayou/q/reset.json")), "remove:reset");
    }

    #[test]
    fn points_are_counted_once_somebody_asks() {
        pass("a-step-of-this-test", "before");
        assert!(!seen().contains_key("a-step-of-this-test.before"));
        pass("a-step-of-this-test", "before");
        assert_eq!(seen().get("a-step-of-this-test.before"), Some(&1));
        at("a-step-of-this-test.after", 1, What::Crash);
        at("a-step-of-this-test.after", 0, What::Crash);
        pass("a-step-of-this-test", "after");
        assert_eq!(seen().get("a-step-of-this-test.after"), Some(&1));
    }
}
