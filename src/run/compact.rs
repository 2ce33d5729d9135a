//! State files: each epoch's increments, and the files that replace many increments, which are written in the background.

use super::Job;
use super::files::{FileInfo, SET_ASIDE, latest, needed_until};
use super::start::Started;
use super::within::{room, room_of_all, shown};
use crate::engine::{Outcome, SetAside};
use crate::epoch::{EpochLog, StateFiles, number_of};
use crate::state::{self, Stateful};
use crate::time::{EventTime, Watermark};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// From this many files on, one file replaces them.
const MANY: usize = 8;
/// At this many increments, write a full snapshot: no run lived long enough to compact in the background.
const FEW_RUNS: usize = 24;
/// An operator keeps at most about this many files.
const TOO_MANY: usize = 64;
/// A compaction may hold a quarter of the size of the state in memory. A smaller state than this counts as a state of
/// this many bytes.
const COMPACTED: usize = 1 << 30;

/// The compactions that have finished or are running.
#[derive(Default)]
pub(super) struct Compactor {
    /// By operator: the files that are replaced, and the result.
    running: BTreeMap<usize, (Vec<String>, Receiver<Result<(String, FileInfo)>>)>,
}

/// The files that one new file replaces: from this index on. A large file is not written again until the files after it
/// are half as large.
fn due(sizes: &[usize], anywhere: bool) -> Option<usize> {
    let last_start = sizes.len().checked_sub(MANY)?;
    let mut after: Vec<usize> = vec![0; sizes.len() + 1];
    for i in (0..sizes.len()).rev() {
        after[i] = after[i + 1] + sizes[i];
    }
    let starts = if anywhere { 0..=last_start } else { 0..=0 };
    let found = starts.into_iter().find(|i| sizes[*i] <= 2 * after[*i + 1]);
    found.or((sizes.len() >= TOO_MANY).then_some(0))
}

impl Compactor {
    /// Which rows of complete results this epoch has set aside.
    fn set_aside(at: &mut Started, left: usize) -> Result<Option<ToWrite>> {
        let files = at.state.get(SET_ASIDE).map_or(0, |f| f.increments.len());
        let remembered = &mut at.engine.set_aside;
        let Some(written) = remembered.take(files >= FEW_RUNS)? else { return Ok(None) };
        let files = at.state.entry(SET_ASIDE.into()).or_default();
        files.groups = remembered.len() as u64;
        let room = if written.whole { left } else { room(files, left) };
        let bytes = state::encode(&SetAside::schema(), &[written.rows], SetAside::DESCRIPTION)?;
        Ok(Some(ToWrite {
            folder: "state/set-aside".into(),
            name: SET_ASIDE.into(),
            whole: written.whole,
            bytes,
            info: None,
            room,
        }))
    }

    /// Writes the increment of each operator's state. `last`: this run seals no later epoch, so nothing would use a file that is compacted in the
    /// background.
    pub(super) fn write_state(
        &mut self,
        at: &mut Started,
        job: &Job,
        memory: usize,
        epoch: i64,
        last: bool,
        outcome: Outcome,
    ) -> Result<()> {
        let mut left = room_of_all(&at.state);
        let mut to_write: Vec<ToWrite> = Self::set_aside(at, left)?.into_iter().collect();
        let mut kept = vec![];
        for (operator, ended) in outcome.operators.into_iter().enumerate() {
            let name = at.engine.plan.operators[operator].name.clone();
            let increments = ended.increment;
            let watermark = at.engine.watermark_of(operator);
            let op = &mut at.engine.operators[operator];
            let infos = &mut at.files;
            let files = at.state.entry(name.clone()).or_default();
            files.groups = op.groups() as u64;
            files.watermark = watermark;
            if files.groups == 0 && increments.is_empty() {
                forget_all(files, infos);
                *files = StateFiles { watermark, ..StateFiles::default() };
                continue;
            }
            self.take(operator, files, infos);
            forget_files(files, infos, watermark);
            // If nothing has compacted the increments, for example because each run is one epoch: write all of the state, which is in memory.
            let whole = !increments.is_empty() && files.increments.len() >= FEW_RUNS;
            if whole || !increments.is_empty() {
                let (bytes, info) = match whole {
                    true => snapshot(&mut **op)?,
                    false => {
                        let bytes = state::encode(&op.state_schema(), &increments, &op.description())?;
                        let info = FileInfo { bytes: bytes.len(), needed_until: needed_until(&**op, &increments) };
                        (bytes, info)
                    }
                };
                let (folder, name) = (format!("state/{name}"), name.clone());
                let room = if whole { left } else { room(files, left) };
                // A name is longer than the content, by a third.
                left = left.saturating_sub(bytes.len() * 4 / 3 + 64);
                to_write.push(ToWrite { folder, name, whole, bytes, info: Some(info), room });
            }
            if !whole && !last {
                kept.push((operator, name, watermark));
            }
        }
        // All files at the same time: in a store, each file takes the time of a request.
        let log = at.log.clone();
        let writing = to_write.into_iter().map(|w| {
            let log = &log;
            async move {
                let kind = if w.whole { "base" } else { "increment" };
                let file = log.keep_file(w.folder, epoch, kind, w.bytes, w.room).await?;
                Ok::<_, Error>((w.name, file, w.whole, w.info))
            }
        });
        for (name, file, whole, info) in job.runtime.block_on(futures::future::try_join_all(writing))? {
            at.files.extend(info.map(|info| (file.clone(), info)));
            let files = at.state.entry(name).or_default();
            match whole {
                true => {
                    forget_all(files, &mut at.files);
                    (files.base, files.increments) = (Some(file), vec![]);
                }
                false => files.increments.push(file),
            }
        }
        for (operator, name, watermark) in kept {
            let files = at.state.entry(name.clone()).or_default();
            let op = &*at.engine.operators[operator];
            // A second copy of a large state would double what the query takes.
            let memory = (memory / 4).min(op.memory().max(COMPACTED) / 4);
            let place = Place { log: log.clone(), name, runtime: job.runtime.clone(), memory, room: left };
            self.start(operator, op, files, &at.files, watermark, place)?;
        }
        Ok(())
    }
}

/// A file with all of the state, and its facts.
fn snapshot(op: &mut dyn Stateful) -> Result<(Vec<u8>, FileInfo)> {
    // The operator is in use while it hands out its pieces.
    let judge = op.fresh()?;
    let mut encoder = state::Encoder::new(&op.state_schema(), &op.description())?;
    let mut needed_until = Some(EventTime(i64::MIN));
    op.snapshot(&mut |piece| {
        needed_until = latest(needed_until, judge.needed_until(&piece));
        encoder.push(&piece)
    })?;
    let bytes = encoder.finish()?;
    let info = FileInfo { bytes: bytes.len(), needed_until };
    Ok((bytes, info))
}

/// A state file that must be written.
struct ToWrite {
    folder: String,
    /// The name of the operator.
    name: String,
    /// The file replaces all files before it.
    whole: bool,
    bytes: Vec<u8>,
    info: Option<FileInfo>,
    /// The number of bytes for which there is room in the seal.
    room: usize,
}

fn forget_all(files: &StateFiles, infos: &mut HashMap<String, FileInfo>) {
    for file in files.names() {
        infos.remove(file);
    }
}

/// Drops the files whose contents are not needed any more.
fn forget_files(files: &mut StateFiles, infos: &mut HashMap<String, FileInfo>, watermark: Option<Watermark>) {
    let Some(watermark) = watermark else { return };
    let mut keep = |file: &String| {
        let needed = infos.get(file).and_then(|i| i.needed_until).is_none_or(|until| until > watermark);
        if !needed {
            infos.remove(file);
        }
        needed
    };
    files.base = files.base.take().filter(&mut keep);
    files.increments.retain(keep);
}

struct Place {
    log: EpochLog,
    name: String,
    runtime: tokio::runtime::Handle,
    /// The number of bytes for which there is room in the seal.
    room: usize,
    /// The part of the state that compaction may hold in memory. The rest goes to local disk, if the operator can do that.
    memory: usize,
}

impl Compactor {
    /// Replaces the files that a finished file was made of with the finished file.
    fn take(&mut self, operator: usize, files: &mut StateFiles, infos: &mut HashMap<String, FileInfo>) {
        let Some((inputs, result)) = self.running.get(&operator) else { return };
        let made = match result.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Err(Error::internal("the compaction ended without a result")),
            Ok(made) => made,
        };
        match made {
            Ok((file, info)) => {
                // Some of these files may have been dropped meanwhile. The files that are left are still adjacent.
                let all: Vec<String> = files.base.take().into_iter().chain(files.increments.drain(..)).collect();
                let at = all.iter().position(|f| inputs.contains(f));
                let mut left: Vec<String> = all.iter().filter(|f| !inputs.contains(f)).cloned().collect();
                if let Some(at) = at {
                    left.insert(at, file.clone());
                    infos.insert(file.clone(), info);
                    if at == 0 {
                        files.base = Some(left.remove(0));
                    }
                }
                infos.retain(|f, _| !inputs.contains(f));
                files.increments = left;
            }
            // The compaction is tried again later. The increments contain the same state.
            Err(e) => log::warn!("state files could not be compacted: {}", e.message),
        }
        self.running.remove(&operator);
    }

    fn start(
        &mut self,
        operator: usize,
        op: &dyn Stateful,
        files: &StateFiles,
        infos: &HashMap<String, FileInfo>,
        watermark: Option<Watermark>,
        place: Place,
    ) -> Result<()> {
        if self.running.contains_key(&operator) {
            return Ok(());
        }
        let all: Vec<String> = files.names().cloned().collect();
        let sizes: Vec<usize> = all.iter().map(|f| infos.get(f).map_or(0, |i| i.bytes)).collect();
        let Some(from) = due(&sizes, op.merges_anywhere()) else { return Ok(()) };
        let inputs = all[from..].to_vec();
        let (mut fresh, (say, hear)) = (op.fresh()?, channel());
        let job = inputs.clone();
        std::thread::Builder::new()
            .name("bayou-compact".into())
            .spawn(move || {
                let _ = say.send(compact(&mut *fresh, &job, watermark, &place));
            })
            .map_err(|e| Error::internal(format!("no thread: {e}")))?;
        self.running.insert(operator, (inputs, hear));
        Ok(())
    }
}

fn compact(
    fresh: &mut dyn Stateful,
    inputs: &[String],
    watermark: Option<Watermark>,
    place: &Place,
) -> Result<(String, FileInfo)> {
    let (schema, description) = (fresh.state_schema(), fresh.description());
    for file in inputs {
        let bytes = place.runtime.block_on(place.log.read_file(file))?;
        let bytes = bytes.ok_or_else(|| Error::storage(format!("{file} is gone")))?;
        for batch in state::decode(&bytes, &description, &schema, &shown(file))? {
            fresh.restore(&batch?)?;
            if fresh.memory() > place.memory {
                fresh.shrink(place.memory / 2)?;
            }
        }
    }
    fresh.forget(watermark)?;
    let (bytes, info) = snapshot(fresh)?;
    // The file gets the number of the newest file that it replaces, because clean-up goes by numbers.
    let number = inputs.last().and_then(|f| number_of(f));
    let number = number.ok_or_else(|| Error::internal("a state file without a number"))?;
    let writing = place.log.keep_file(format!("state/{}", place.name), number, "base", bytes, place.room);
    Ok((place.runtime.block_on(writing)?, info))
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn files_are_compacted_when_what_came_after_is_worth_it() {
        assert_eq!(due(&[10; 7], true), None, "too few");
        assert_eq!(due(&[10; 8], true), Some(0));
        assert_eq!(due(&[1000, 10, 10, 10, 10, 10, 10, 10, 10], true), Some(1), "the large one stays");
        assert_eq!(due(&[1000, 10, 10, 10, 10, 10, 10, 10, 10], false), None, "only from the oldest on");
        assert_eq!(due(&[16, 10, 10, 10, 10, 10, 10, 10, 10], false), Some(0));
        let many: Vec<usize> = std::iter::once(1_000_000).chain([1; 70]).collect();
        assert_eq!(due(&many, false), Some(0), "so many are never kept");
    }

    #[test]
    fn an_epoch_that_adds_little_writes_little_in_the_long_run() {
        let (mut files, mut written, mut most) = (vec![], 0usize, 0);
        for _ in 0..10_000 {
            files.push(1usize);
            written += 1;
            if let Some(from) = due(&files, true) {
                let sum = files.drain(from..).sum();
                written += sum;
                files.push(sum);
            }
            most = most.max(files.len());
        }
        assert!(most < 32, "{most} files");
        assert!(written < 10_000 * 12, "each row was written {} times", written / 10_000);
    }
}
