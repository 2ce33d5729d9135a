//! Whether a bounded member of a group has read everything. Behind the last message of a partition there may be only transaction markers, which
//! no reader sees, and a member whose partition is silent cannot know whether more will come. A reader outside the group looks.

use super::group::Shared;
use super::{Event, Reader, ReaderOptions};
use crate::Result;
use crate::kafka::{Connection, OffsetSpec, Question};
use crate::position::{Offset, Positions, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A partition of which nothing has come for this long is looked at.
const STILL: Duration = Duration::from_millis(500);
/// The time between two looks. It doubles up to `MOST` while a look finds that messages are still to come, so that looks do not load a slow cluster.
const AGAIN: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);
/// A look ends after this time. What it has not seen by then is looked at again.
const LOOK: Duration = Duration::from_secs(5);

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
    question: Option<Question<Spots>>,
}

impl Ends {
    pub fn new() -> Self {
        Self { stands: BTreeMap::new(), asked: None, again: AGAIN, question: None }
    }

    /// `paused`: messages do not come at the moment, because the user has not used the earlier ones.
    pub fn follow(&mut self, connection: &Connection, shared: &Shared, paused: bool) {
        if let Some(question) = &self.question {
            let Some(answer) = question.answer(Duration::ZERO) else { return };
            self.question = None;
            match answer {
                Ok(read) => {
                    self.again = if read.is_empty() { MOST.min(self.again * 2) } else { AGAIN };
                    reach(shared, &read);
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
        let unread = unread(shared);
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
        let connection = connection.clone();
        self.asked = Some(now);
        self.question = Question::ask(move || without_messages(&connection, spots)).ok();
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

/// The partitions that have no message from the member's place to its end.
fn without_messages(connection: &Connection, spots: Spots) -> Result<Spots> {
    let from: Positions = spots.iter().map(|(tp, spot)| (tp.clone(), spot.at)).collect();
    // A replica that is near can be behind its leader. One message of each partition is enough.
    let properties = [("client.rack", ""), ("fetch.message.max.bytes", "65536"), ("queued.min.messages", "1")];
    let properties = properties.map(|(name, value)| (name.to_string(), value.to_string())).into();
    let options = ReaderOptions { chunk_messages: 256, queue_chunks: 1, properties, ..ReaderOptions::default() };
    let mut reader = Reader::start(connection, &from, &options)?;
    let mut open: BTreeSet<TopicPartition> = spots.keys().cloned().collect();
    let (mut read, mut short) = (BTreeSet::new(), BTreeMap::new());
    let deadline = Instant::now() + LOOK;
    while !open.is_empty() && Instant::now() < deadline {
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
            // The member itself gets this error.
            Some(Event::OutOfRange { partition, .. }) => drop(open.remove(&partition)),
            _ => {}
        }
    }
    // A log that was cut ends before the member's end.
    let asked: Vec<_> = short.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
    let ends = connection.list_offsets(&asked)?;
    read.extend(short.into_iter().filter(|(tp, next)| ends.get(tp).is_some_and(|end| end <= next)).map(|(tp, _)| tp));
    Ok(spots.into_iter().filter(|(tp, _)| read.contains(tp)).collect())
}
