//! Whether a bounded member of a group has read everything. Behind the last message of a partition there may be only transaction markers, which
//! no reader sees, and a member whose partition is silent cannot know whether more will come. A reader outside the group looks.

use super::group::Shared;
use super::{Event, Reader, ReaderOptions};
use crate::Result;
use crate::kafka::{Connection, OffsetSpec, Question};
use crate::position::{Offset, Positions, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// If no message of a partition has come for this long, the end of the partition is looked up.
const STILL: Duration = Duration::from_millis(500);
/// The time between two looks. It doubles up to `MOST` while a look finds that messages are still to come, so that looks do not load a slow cluster.
const AGAIN: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);
/// A look ends after this time. Partitions that it has not finished are looked at again, for twice as long, because
/// many aborted messages may come after a message.
const LOOK: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);

/// A place in one assignment of a partition, and where the member ends there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Spot {
    assignment: u64,
    at: Offset,
    end: Offset,
}

type Spots = BTreeMap<TopicPartition, Spot>;

/// The partitions that are not read to their end.
pub(super) struct Ends {
    stands: BTreeMap<TopicPartition, (Spot, Instant)>,
    asked: Option<Instant>,
    again: Duration,
    patience: Duration,
    question: Option<Question<Look>>,
    shared: Arc<Shared>,
    fail_on_data_loss: bool,
}

/// What a look has found.
struct Look {
    /// The partitions that are read to their end.
    read: Spots,
    /// The time was over before everything was seen.
    is_unfinished: bool,
}

impl Ends {
    pub(super) fn new(shared: Arc<Shared>, fail_on_data_loss: bool) -> Self {
        let (again, patience) = (AGAIN, LOOK);
        Self { stands: BTreeMap::new(), asked: None, again, patience, question: None, shared, fail_on_data_loss }
    }

    /// `paused`: messages do not come at the moment, because the user has not used the earlier ones.
    pub(super) fn follow(&mut self, connection: &Connection, paused: bool) {
        if let Some(question) = &self.question {
            let Some(answer) = question.answer(Duration::ZERO) else { return };
            self.question = None;
            match answer {
                Ok(look) => {
                    self.again = if look.read.is_empty() { MOST.min(self.again * 2) } else { AGAIN };
                    self.patience = if look.is_unfinished { LONGEST.min(self.patience * 2) } else { LOOK };
                    reach(&self.shared, &look.read);
                }
                // A broker that does not answer now is asked again.
                Err(e) => log::debug!(target: "bayou::kafka", "looking at the ends of partitions: {}", e.message),
            }
            return;
        }
        if paused {
            self.stands.clear();
            return;
        }
        let now = Instant::now();
        let unread = unread(&self.shared);
        self.stands.retain(|tp, (spot, _)| unread.get(tp) == Some(spot));
        for (tp, spot) in unread {
            self.stands.entry(tp).or_insert((spot, now));
        }
        if self.asked.is_some_and(|at| now.duration_since(at) < self.again) {
            return;
        }
        let still = self.stands.iter().filter(|(_, (_, since))| now.duration_since(*since) >= STILL);
        let spots: Spots = still.map(|(tp, (spot, _))| (tp.clone(), *spot)).collect();
        if spots.is_empty() {
            return;
        }
        self.asked = Some(now);
        let (connection, shared) = (connection.clone(), self.shared.clone());
        let (patience, fail_on_data_loss) = (self.patience, self.fail_on_data_loss);
        self.question =
            Question::ask(move || without_messages(&connection, &shared, spots, patience, fail_on_data_loss)).ok();
    }
}

fn unread(shared: &Shared) -> Spots {
    let state = shared.state.lock();
    let spot = |(tp, end): (&TopicPartition, &Offset)| {
        let (at, assignment) = (*state.at.get(tp)?, *state.owned.get(tp)?);
        (at < *end).then(|| (tp.clone(), Spot { assignment, at, end: *end }))
    };
    state.targets.iter().filter_map(spot).collect()
}

/// The partitions are read, unless they moved meanwhile.
fn reach(shared: &Shared, read: &Spots) {
    let mut state = shared.state.lock();
    let state = &mut *state;
    for (tp, spot) in read {
        if let (Some(at), Some(assignment)) = (state.at.get_mut(tp), state.owned.get(tp))
            && (*at, *assignment) == (spot.at, spot.assignment)
        {
            *at = spot.end;
        }
    }
    shared.changed.notify_all();
}

/// If a position does not exist any more, librdkafka continues at the first message that exists, and does not report
/// this.
pub(super) fn raise_to_first(connection: &Connection, at: &mut Positions) -> Result<()> {
    let asked: Vec<_> = at.keys().map(|tp| (tp.clone(), OffsetSpec::Earliest)).collect();
    for (tp, first) in connection.list_offsets(&asked)? {
        at.entry(tp).and_modify(|at| *at = (*at).max(first));
    }
    Ok(())
}

/// The partitions that have no message from the member's place to its end.
fn without_messages(
    connection: &Connection,
    shared: &Shared,
    spots: Spots,
    patience: Duration,
    fail_on_data_loss: bool,
) -> Result<Look> {
    let mut from: Positions = spots.iter().map(|(tp, spot)| (tp.clone(), spot.at)).collect();
    if !fail_on_data_loss {
        raise_to_first(connection, &mut from)?;
    }
    let (mut read, mut open): (BTreeSet<_>, BTreeSet<_>) =
        spots.keys().cloned().partition(|tp: &TopicPartition| from[tp] >= spots[tp].end);
    if open.is_empty() {
        return Ok(Look { read: spots, is_unfinished: false });
    }
    // A replica that is near can be behind its leader. One message of each partition is enough, but there may be many that no reader sees.
    let bytes = if patience == LOOK { "65536" } else { "1048576" };
    let properties = [("client.rack", ""), ("fetch.message.max.bytes", bytes), ("queued.min.messages", "1")];
    let properties = properties.map(|(name, value)| (name.to_string(), value.to_string())).into();
    let options = ReaderOptions { chunk_messages: 256, queue_chunks: 1, properties, ..ReaderOptions::default() };
    let mut reader = Reader::start(connection, &from, &options)?;
    let mut short = BTreeMap::new();
    let deadline = Instant::now() + patience;
    while !open.is_empty() && Instant::now() < deadline && !shared.stop.load(Ordering::Relaxed) {
        match reader.next(Duration::from_millis(100))? {
            Some(Event::Messages(messages)) => {
                for i in 0..messages.len() {
                    let tp = messages.source(i);
                    if open.remove(tp) && messages.offsets[i] >= spots[tp].end.0 {
                        read.insert(tp.clone());
                    }
                }
            }
            Some(Event::EndOfPartition { partition, next }) if open.remove(&partition) => {
                if next >= spots[&partition].end {
                    read.insert(partition);
                } else {
                    short.insert(partition, next);
                }
            }
            // The log was cut. The member itself gets this error, or goes on at the first message that exists.
            Some(Event::OutOfRange { partition, .. }) if open.remove(&partition) && !fail_on_data_loss => {
                read.insert(partition);
            }
            _ => {}
        }
    }
    // A log that was cut ends before the member's end.
    let asked: Vec<_> = short.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
    let ends = connection.list_offsets(&asked)?;
    read.extend(short.into_iter().filter(|(tp, next)| ends.get(tp).is_some_and(|end| end <= next)).map(|(tp, _)| tp));
    let is_unfinished = !open.is_empty();
    Ok(Look { read: spots.into_iter().filter(|(tp, _)| read.contains(tp)).collect(), is_unfinished })
}
