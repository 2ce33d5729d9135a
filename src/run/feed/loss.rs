//! Detects lost and truncated offsets.
//!
//! Offsets below the log's start were removed by retention. A log that was truncated (by an unclean leader election or a lost disk) may have
//! grown past our offset again. Only leader epochs show that. Leader epochs are checked when a run starts, and when a record of a new leader
//! arrives. Within a run, every loss except retention makes the run start again from the newest seal (`Fed::Again`). Records that were read and
//! not sealed are in no table, and the new start finds exactly which sealed offsets are lost.

use super::{Fed, Feed};
use crate::epoch::{Loss, LostRange};
use crate::error::{Kind, LostOffsets};
use crate::kafka::{Connection, OffsetSpec, Question};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The last record of a partition that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRead {
    pub offset: Offset,
    pub leader_epoch: Option<i32>,
}

/// After a question without an answer, the next question waits this long.
const AGAIN: Duration = Duration::from_millis(500);

/// A doubt about the log that must be resolved before more is read.
pub(super) struct Doubt {
    about: About,
    question: Option<Question<Finding>>,
    asked: Instant,
}

#[derive(Clone)]
enum About {
    /// The offset does not exist in the log.
    Range { partition: TopicPartition, wanted: Offset },
    /// A record of a later leader arrived. Are the records below `read`, which were read under an earlier leader, still in the log?
    Leader { partition: TopicPartition, read: Offset, in_epoch: i32, now: i32 },
    /// A record of an earlier leader than that of the last record arrived.
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
    /// Continues recreated topics at their start.
    pub(super) fn restart_topics(&mut self, topics: &[Topic]) -> Result<()> {
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

    /// Looks up the ends of the partitions. Checks that the offsets to be read still exist, and that the records that were read are still in the log.
    pub(super) fn look_at_ends(&mut self) -> Result<()> {
        let all: Vec<_> = self.positions.keys().map(|tp| (tp.clone(), OffsetSpec::Earliest)).collect();
        let earliest = self.connection.list_offsets(&all)?;
        let ends = self.connection.list_ends(self.positions.keys().cloned())?;
        let mut marks = vec![];
        for (tp, at) in &self.positions {
            let newest = ends.get(tp).and_then(|(_, epoch)| *epoch);
            let read_in = self.read.get(tp).and_then(|r| r.leader_epoch);
            let Some(newest) = newest else { continue };
            // Without a later leader the log is the same.
            if let Some(read_in) = read_in.filter(|read_in| newest > *read_in) {
                marks.push((tp.clone(), *at, read_in));
            }
            // Records of all leaders up to the newest need no further question: they belong to this log.
            self.verified.insert(tp.clone(), newest);
        }
        let parts = self.connection.divergence(&marks)?;
        self.ends = ends.into_iter().map(|(tp, (end, _))| (tp, end)).collect();
        let positions: Vec<_> = self.positions.iter().map(|(k, v)| (k.clone(), *v)).collect();
        for (tp, at) in positions {
            let (Some(first), Some(end)) = (earliest.get(&tp).copied(), self.ends.get(&tp).copied()) else { continue };
            // Only the offsets up to the last record count. Behind it are only transaction markers and similar entries.
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

    /// Reading is at `at` and can only continue at `until`. This is an error, or the loss is recorded and the position changes.
    pub(super) fn lose(&mut self, tp: &TopicPartition, at: Offset, until: Offset, why: Loss) -> Result<()> {
        let what = match why {
            Loss::Retention => format!(
                "{tp}: offsets {} to {} are lost: retention removed them before they were read",
                at.0,
                until.0 - 1
            ),
            Loss::Truncated if until >= at => {
                format!(
                    "{tp}: the log was rewritten below offset {}: the log no longer contains the records that were read there",
                    at.0
                )
            }
            Loss::Truncated => format!(
                "{tp}: offsets {} to {} were read and are no longer in the log. The log was truncated at {} (by a leader with a shorter log, or the \
                 topic was recreated). Rows that were made from these offsets stay in the tables",
                until.0,
                at.0 - 1,
                until.0
            ),
            Loss::Recreated | Loss::Markers | Loss::Unknown => {
                format!("{tp}: everything from offset {} on is lost: the topic was deleted and recreated", at.0)
            }
        };
        if self.fails_on_loss(&tp.topic) {
            let lost = LostOffsets {
                topic: tp.topic.to_string(),
                partition: tp.partition.0,
                from: at.0.min(until.0),
                until: at.0.max(until.0),
            };
            let e = Error::data_loss(format!(
                "{what}. To continue at {} and have the gap recorded, use fail_on_data_loss=False. To read everything again from the start, use full_refresh=True (an iterator: a different name=).",
                until.0
            ));
            return Err(e.at_offset(tp.topic.as_str(), tp.partition.0, at.0).with_lost(lost));
        }
        let text = format!("{what}. Reading continues at {}.", until.0);
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

    /// Checks the first record after a position that had only transaction markers and similar entries before it.
    pub(super) fn resume(&mut self, tp: &TopicPartition, first: Offset) {
        let Some(passed) = self.passed.remove(tp) else { return };
        if first < passed {
            // The markers that were passed are gone. In their place are records that have not been read.
            self.lost.push(LostRange {
                topic: tp.topic.to_string(),
                partition: tp.partition.0,
                from: passed.0,
                until: first.0,
                why: Loss::Markers,
            });
        }
    }

    /// The positions that a seal records.
    pub(crate) fn sealed(&self) -> Positions {
        let passed = |tp: &TopicPartition| self.passed.get(tp).copied().unwrap_or(Offset(0));
        self.positions.iter().map(|(tp, at)| (tp.clone(), (*at).max(passed(tp)))).collect()
    }

    pub(super) fn doubt_offset(&mut self, partition: TopicPartition, wanted: Offset) {
        self.doubt(About::Range { partition, wanted });
    }

    /// The next record is from this leader.
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

    /// Resolves a doubt. None: there is no doubt, so reading continues.
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
                        "{partition}: the log ends at {}, and offset {} is the next one to read",
                        end.0, wanted.0
                    ))));
                }
                if wanted < first {
                    self.lose(&partition, wanted, first, Loss::Retention)?;
                }
                // Otherwise the offset exists by now: the leader was behind.
                let again = [(partition.clone(), self.positions[&partition])].into();
                self.start_reader()?.assign(&again)?;
            }
            (About::Leader { partition, read, now, .. }, Finding::Parts(parts)) => {
                if let Some(cut) = parts.filter(|cut| *cut < read) {
                    return Ok(Some(Fed::Again(format!("{partition}: the log was truncated at {}", cut.0))));
                }
                self.verified.insert(partition, now);
            }
            (About::Earlier { partition, .. }, Finding::Same(same)) => {
                if !same {
                    return Ok(Some(Fed::Again(format!("{}: the topic was recreated", partition.topic))));
                }
                // The log of an earlier leader has come back. Nothing shows from which offset on it is different.
                let at = self.read.get(&partition).map_or(Offset(0), |r| Offset(r.offset.0 + 1));
                self.lose(&partition, at, at, Loss::Truncated)?;
                self.read.remove(&partition);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Whether the topics are the ones that were read so far. A topic that was recreated under the same name is not noticed otherwise, if its offsets
    /// have grown past ours. None: there is no answer yet.
    pub(crate) fn confirm_topics(&mut self, wait: Duration) -> Result<Option<bool>> {
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
                        // The topic was deleted and not recreated, so everything was read from the old topic.
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
