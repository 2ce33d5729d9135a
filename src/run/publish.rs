//! Publishes the position of a query as the offsets of a consumer group, for tools that show lag. The position is never read back: the truth is in
//! the checkpoint.

use crate::kafka::{Connection, Question};
use crate::position::Positions;
use crate::{Error, Result};
use std::time::Duration;

/// How long the end of a run waits for the last answer.
const LAST: Duration = Duration::from_secs(5);

pub(super) struct Publisher {
    connection: Connection,
    group: String,
    asking: Option<Question<()>>,
    next: Option<Positions>,
}

impl Publisher {
    pub(super) fn new(connection: Connection, group: &str) -> Self {
        Self { connection, group: group.into(), asking: None, next: None }
    }

    /// Publishes a position in parallel with the run. Only the newest position counts. Returns a warning if an earlier one could not be published.
    pub(super) fn publish(&mut self, at: Positions) -> Option<String> {
        self.next = Some(at);
        self.turn(Duration::ZERO)
    }

    fn turn(&mut self, wait: Duration) -> Option<String> {
        let answer = match &self.asking {
            Some(asking) => Some(asking.answer(wait)?),
            None => None,
        };
        self.asking = None;
        if let Some(next) = self.next.take() {
            let (connection, group) = (self.connection.clone(), self.group.clone());
            match Question::ask(move || connection.set_group_offsets(&group, &next)) {
                Ok(asking) => self.asking = Some(asking),
                Err(e) => return Some(self.warning(&e)),
            }
        }
        let answer: Result<()> = answer.unwrap_or(Ok(()));
        answer.err().map(|e| self.warning(&e))
    }

    /// The last position, which a bounded run must not leave out.
    pub(super) fn finish(mut self) -> Option<String> {
        let first = self.turn(LAST);
        first.or_else(|| self.turn(LAST))
    }

    fn warning(&self, e: &Error) -> String {
        format!("the position is not published to the group '{}': {}", self.group, e.message)
    }
}
