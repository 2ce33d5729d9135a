//! What was to be read and is not there, and whether what was read still is.
//!
//! Offsets below the log's start went by retention. A log that was cut (an unclean leader election, a lost disk) may have grown past our
//! offset again: only leader epochs tell. They are looked at when a run starts, and whenever a record of a new leader comes. Within
//! a run the answer to anything but retention is to start again from the newest seal (`Fed::Again`): what was read and not sealed is
//! in no table, and the start finds out what is lost of the rest, exactly.

use super::{Fed, Feed};
use crate::epoch::{Loss, LostRange};
use crate::error::Kind;
use crate::kafka::{Connection, OffsetSpec};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::run::ask::Question;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A partition's last record that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRead {
    pub offset: Offset,
    pub leader_epoch: Option<i32>,
}

/// After a question that could not be answered the next one waits so long.
const AGAIN: Duration = Duration::from_millis(500);

/// Something that has to be known before anything more is read.
pub(super) struct Doubt {
    about: About,
    question: Option<Question<Finding>>,
    asked: Instant,
}

#[derive(Clone)]
enum About {
    /// The offset is not there.
    Range { partition: TopicPartition, wanted: Offset },
    /// A record of a later leader: is what was read up to `read` under an earlier one still in the log?
    Leader { partition: TopicPartition, read: Offset, in_epoch: i32, now: i32 },
    /// A record of an earlier leader than the last one.
    Earlier { partition: TopicPartition, id: Option<String> },
}

enum Finding {
    Range { first: Offset, end: Offset },
    Parts(Option<Offset>),
    Same(bool),
}

impl About {
    fn find(&self, connection: &Connection) -> Result<Finding> {
        match self {
            About::Range { partition, .. } => {
                let one = |spec| [(partition.clone(), spec)];
                let first = connection.list_offsets(&one(OffsetSpec::Earliest))?.get(partition).copied();
                let end = connection.list_offsets(&one(OffsetSpec::Latest))?.get(partition).copied();
                Ok(Finding::Range { first: first.unwrap_or(Offset(0)), end: end.unwrap_or(Offset(0)) })
            }
            About::Leader { partition, read, in_epoch, .. } => {
                let found = connection.divergence(&[(partition.clone(), *read, *in_epoch)])?;
                Ok(Finding::Parts(found.get(partition).copied()))
            }
            About::Earlier { partition, id } => {
                Ok(Finding::Same(id.is_none() || connection.topic_id(&partition.topic)? == *id))
            }
        }
    }
}

impl Feed {
    /// Takes up a topic that was made anew at its start.
    pub(super) fn begin_anew(&mut self, topics: &[Topic]) -> Result<()> {
        for topic in topics {
            let there = self.connection.partitions(topic)?;
            let there: Vec<_> =
                there.into_iter().map(|p| TopicPartition { topic: topic.clone(), partition: p }).collect();
            let earliest = there.iter().map(|tp| (tp.clone(), OffsetSpec::Earliest)).collect::<Vec<_>>();
            let earliest = self.connection.list_offsets(&earliest)?;
            let known: Vec<_> =
                self.positions.iter().filter(|(tp, _)| tp.topic == *topic).map(|(t, o)| (t.clone(), *o)).collect();
            for (tp, at) in known {
                let first = earliest.get(&tp).copied();
                self.read.remove(&tp);
                self.lose(&tp, at, first.unwrap_or(at), Loss::Recreated)?;
                if first.is_none() {
                    self.positions.remove(&tp);
                }
            }
        }
        Ok(())
    }

    /// Looks up the ends, and whether what is to be read still exists and what was read still stands.
    pub(super) fn look_at_ends(&mut self) -> Result<()> {
        let all: Vec<_> = self.positions.keys().map(|tp| (tp.clone(), OffsetSpec::Earliest)).collect();
        let earliest = self.connection.list_offsets(&all)?;
        let ends = self.connection.list_ends(self.positions.keys().cloned())?;
        let mut marks = vec![];
        for (tp, at) in &self.positions {
            let newest = ends.get(tp).and_then(|(_, epoch)| *epoch);
            let read_in = self.read.get(tp).and_then(|r| r.leader_epoch);
            let Some(newest) = newest else { continue };
            // No later leader, no other log.
            if let Some(read_in) = read_in.filter(|read_in| newest > *read_in) {
                marks.push((tp.clone(), *at, read_in));
            }
            // Records of all leaders up to now may come without a question: what will be read is of this log.
            self.verified.insert(tp.clone(), newest);
        }
        let parts = self.connection.divergence(&marks)?;
        self.ends = ends.into_iter().map(|(tp, (end, _))| (tp, end)).collect();
        let positions: Vec<_> = self.positions.iter().map(|(k, v)| (k.clone(), *v)).collect();
        for (tp, at) in positions {
            let (Some(first), Some(end)) = (earliest.get(&tp).copied(), self.ends.get(&tp).copied()) else { continue };
            // The last record and what lies before it: behind it are only markers and the like.
            let read = self.read.get(&tp).map_or(at, |r| Offset(r.offset.0 + 1));
            match parts.get(&tp) {
                Some(cut) if *cut < read => self.lose(&tp, at, (*cut).max(first).min(end), Loss::Truncated)?,
                Some(cut) => {
                    self.passed.insert(tp.clone(), at);
                    self.positions.insert(tp, (*cut).max(first).min(end).min(at));
                }
                None if at < first => self.lose(&tp, at, first, Loss::Retention)?,
                None if at > end => self.lose(&tp, at, end, Loss::Truncated)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Reading stands at `at` and can only go on at `until`: an error, or a loss on record and a new position.
    pub(super) fn lose(&mut self, tp: &TopicPartition, at: Offset, until: Offset, why: Loss) -> Result<()> {
        let what = match why {
            Loss::Retention => format!(
                "{tp}: offsets {} to {} are lost: retention has removed them before they were read",
                at.0,
                until.0 - 1
            ),
            Loss::Truncated if until >= at => {
                format!("{tp}: the log below offset {} was written anew: what was read there is no longer in it", at.0)
            }
            Loss::Truncated => format!(
                "{tp}: offsets {} to {} were read and are no longer in the log: it was cut at {} (by a leader that had less of it, or the topic \
                 was made anew); rows made of them stay in the tables",
                until.0,
                at.0 - 1,
                until.0
            ),
            Loss::Recreated | Loss::Markers | Loss::Unknown => {
                format!("{tp}: from offset {} on all is lost: the topic was deleted and made anew", at.0)
            }
        };
        if self.fails_on_loss(&tp.topic) {
            return Err(Error::data_loss(format!(
                "{what}. To go on at {} and have the gap recorded, say fail_on_data_loss=False; to read everything anew, reset(confirm=True).",
                until.0
            )));
        }
        let text = format!("{what}. Reading goes on at {}.", until.0);
        log::warn!("{text}");
        self.warnings.push(text);
        self.lost.push(LostRange {
            topic: tp.topic.to_string(),
            partition: tp.partition.0,
            from: at.0,
            until: until.0,
            why,
        });
        self.positions.insert(tp.clone(), until);
        if until < at {
            self.read.remove(tp);
        }
        Ok(())
    }

    /// The first record that comes after only markers and the like were in doubt.
    pub(super) fn resume(&mut self, tp: &TopicPartition, first: Offset) {
        let Some(passed) = self.passed.remove(tp) else { return };
        if first < passed {
            // The markers that had been passed are gone, and records stand there that have not been read.
            self.lost.push(LostRange {
                topic: tp.topic.to_string(),
                partition: tp.partition.0,
                from: passed.0,
                until: first.0,
                why: Loss::Markers,
            });
        }
    }

    /// Where a seal says that reading stands.
    pub fn sealed(&self) -> Positions {
        let passed = |tp: &TopicPartition| self.passed.get(tp).copied().unwrap_or(Offset(0));
        self.positions.iter().map(|(tp, at)| (tp.clone(), (*at).max(passed(tp)))).collect()
    }

    pub(super) fn doubt_offset(&mut self, partition: TopicPartition, wanted: Offset) {
        self.doubt(About::Range { partition, wanted });
    }

    /// A record of this leader comes next.
    pub(super) fn doubt_leader(&mut self, partition: TopicPartition, epoch: i32) {
        let now = (epoch >= 0).then_some(epoch);
        self.leader_epochs.insert(partition.clone(), now);
        let Some(LastRead { offset, leader_epoch: Some(in_epoch) }) = self.read.get(&partition).copied() else {
            return;
        };
        let Some(now) = now else { return };
        if now < in_epoch {
            let id = self.topic_ids.get(&partition.topic).cloned().flatten();
            self.doubt(About::Earlier { partition, id });
        } else if now > in_epoch && self.verified.get(&partition).is_none_or(|v| *v < now) {
            self.doubt(About::Leader { partition, read: Offset(offset.0 + 1), in_epoch, now });
        }
    }

    fn doubt(&mut self, about: About) {
        self.doubt = Some(Doubt { about, question: None, asked: Instant::now() - AGAIN });
    }

    /// None: settled, read on.
    pub(super) fn settle_doubt(&mut self, wait: Duration) -> Result<Option<Fed>> {
        let Some(doubt) = &mut self.doubt else { return Ok(None) };
        let Some(question) = &doubt.question else {
            if doubt.asked.elapsed() >= AGAIN {
                let (about, connection) = (doubt.about.clone(), self.connection.clone());
                doubt.question = Some(Question::ask(move || about.find(&connection))?);
                doubt.asked = Instant::now();
            } else {
                std::thread::sleep(wait.min(AGAIN));
            }
            return Ok(Some(Fed::Nothing));
        };
        let finding = match question.answer(wait) {
            None => return Ok(Some(Fed::Nothing)),
            Some(Err(e)) if e.kind == Kind::Connection => {
                doubt.question = None;
                self.connection.check_alive()?;
                self.warn(e.message);
                return Ok(Some(Fed::Nothing));
            }
            Some(Err(e)) => return Err(e),
            Some(Ok(finding)) => finding,
        };
        let Some(doubt) = self.doubt.take() else { return Ok(None) };
        match (doubt.about, finding) {
            (About::Range { partition, wanted }, Finding::Range { first, end }) => {
                if wanted > end {
                    return Ok(Some(Fed::Again(format!(
                        "{partition}: the log ends at {} and {} was to be read",
                        end.0, wanted.0
                    ))));
                }
                if wanted < first {
                    self.lose(&partition, wanted, first, Loss::Retention)?;
                }
                // Else it is there by now: a leader that was behind.
                let again = [(partition.clone(), self.positions[&partition])].into();
                self.start_reader()?.assign(&again)?;
            }
            (About::Leader { partition, read, now, .. }, Finding::Parts(parts)) => {
                if let Some(cut) = parts.filter(|cut| *cut < read) {
                    return Ok(Some(Fed::Again(format!("{partition}: the log was cut at {}", cut.0))));
                }
                self.verified.insert(partition, now);
            }
            (About::Earlier { partition, .. }, Finding::Same(same)) => {
                if !same {
                    return Ok(Some(Fed::Again(format!("{}: the topic was made anew", partition.topic))));
                }
                // A log of an earlier leader has come back: nothing tells from which offset on it is another.
                let at = self.read.get(&partition).map_or(Offset(0), |r| Offset(r.offset.0 + 1));
                self.lose(&partition, at, at, Loss::Truncated)?;
                self.read.remove(&partition);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Whether the topics are those that were read so far: one made anew under the same name is read on silently where its offsets
    /// have grown past ours. None: no answer yet.
    pub fn confirm_topics(&mut self, wait: Duration) -> Result<Option<bool>> {
        let ids: BTreeMap<Topic, String> =
            self.topic_ids.iter().filter_map(|(t, id)| Some((t.clone(), id.clone()?))).collect();
        if ids.is_empty() {
            return Ok(Some(true));
        }
        if self.confirming.is_none() {
            let c = self.connection.clone();
            self.confirming = Some(Question::ask(move || {
                for (topic, id) in &ids {
                    match c.topic_id(topic) {
                        Ok(now) if now.as_ref().is_some_and(|now| now != id) => return Ok(false),
                        // Gone, and not made anew: what was read was of the one that is gone.
                        Err(e) if e.kind != Kind::Topic => return Err(e),
                        _ => {}
                    }
                }
                Ok(true)
            })?);
        }
        let Some(answer) = self.confirming.as_ref().and_then(|q| q.answer(wait)) else { return Ok(None) };
        self.confirming = None;
        match answer {
            Ok(same) => Ok(Some(same)),
            Err(e) if e.kind == Kind::Connection => {
                self.connection.check_alive()?;
                self.warn(e.message);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}
