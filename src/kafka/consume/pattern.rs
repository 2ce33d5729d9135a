//! The topics of a group's pattern, which are looked up at intervals.

use super::group::{Look, Member, subscribe};
use crate::kafka::Question;
use rdkafka::consumer::BaseConsumer;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often the topics of a pattern are looked up.
const LOOK: Duration = Duration::from_secs(5);

/// A changed list is a rebalance of the group.
pub(super) struct Pattern {
    look: Look,
    topics: BTreeSet<String>,
    asked: Instant,
    question: Option<Question<BTreeSet<String>>>,
}

impl Pattern {
    pub(super) fn new(look: Look, topics: BTreeSet<String>) -> Self {
        Self { look, topics, asked: Instant::now(), question: None }
    }

    pub(super) fn follow(&mut self, consumer: &BaseConsumer<Member>) {
        let Some(question) = &self.question else {
            if self.asked.elapsed() >= LOOK {
                let look = self.look.clone();
                self.question = Question::ask(move || look()).ok();
                self.asked = Instant::now();
            }
            return;
        };
        let Some(answer) = question.answer(Duration::ZERO) else { return };
        self.question = None;
        // A broker that does not answer now is asked again. The reader reports an outage.
        let Ok(topics) = answer else { return };
        // librdkafka refuses an empty list. A topic that was deleted is reported by the reader.
        if topics.is_empty() || topics == self.topics {
            return;
        }
        match subscribe(consumer, &topics) {
            Ok(()) => self.topics = topics,
            Err(e) => log::debug!(target: "bayou::kafka", "subscribing to {topics:?}: {e}"),
        }
    }
}
