//! Finds expressions that fail for row after row. In this case the expression is wrong, and not the rows.

use super::Engine;
use super::Step;
use crate::batch::FailedRow;
use crate::flow::source::OnMalformed;
use crate::{Error, Kind, Result};
use std::collections::VecDeque;

/// The share of failed rows is computed over at least this many rows, and over about this many of the last rows.
const LEAST: usize = 100;
const LAST: usize = 1000;

/// How many of the last rows failed: (rows, failed) by batch.
#[derive(Default)]
pub(super) struct Recent {
    batches: VecDeque<(usize, usize)>,
    rows: usize,
    failed: usize,
}

impl Recent {
    fn add(&mut self, rows: usize, failed: usize) {
        self.batches.push_back((rows, failed));
        (self.rows, self.failed) = (self.rows + rows, self.failed + failed);
        while let Some((rows, failed)) = self.batches.front().copied().filter(|(rows, _)| self.rows - rows >= LAST) {
            self.batches.pop_front();
            (self.rows, self.failed) = (self.rows - rows, self.failed - failed);
        }
    }

    fn all(&self) -> bool {
        self.rows >= LEAST && self.failed == self.rows
    }
}

impl Engine {
    /// The largest share of rows that may fail. It is the share for malformed messages; for data in memory every row but one may fail.
    fn share_of(&self, node: usize) -> Option<f64> {
        match &self.plan.nodes[node].step {
            Step::Kafka(source) => (source.max_malformed < 1.0).then_some(source.max_malformed),
            Step::Messages(_) | Step::Rows(_) => Some(1.0),
            _ => {
                let of = |input: &usize| self.share_of(*input);
                let shares: Vec<Option<f64>> = self.plan.nodes[node].inputs.iter().map(of).collect();
                // If one of several inputs has no limit, there is no limit.
                shares.into_iter().collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
            }
        }
    }

    /// Stops if too many of the last rows failed in a step, for the same reason that too many malformed messages stop a query.
    pub(super) fn watch_failed(&mut self, node: usize, rows: usize, of_batch: &[FailedRow]) -> Result<()> {
        let failed = of_batch.len();
        let recent = &mut self.failing[node];
        recent.add(rows, failed);
        if failed == 0 || recent.rows < LEAST || self.policy(node) == OnMalformed::Fail {
            return Ok(());
        }
        let (rows, failed) = (self.failing[node].rows, self.failing[node].failed);
        let (Some(share), Some(first)) = (self.share_of(node), of_batch.first()) else { return Ok(()) };
        if failed < rows && failed as f64 <= share * rows as f64 {
            return Ok(());
        }
        let limit = if share < 1.0 { format!(", more than max_malformed={share}") } else { String::new() };
        let regardless = if share < 1.0 { "; to continue anyway, use max_malformed=1.0" } else { "" };
        let (of, error) =
            (if first.cause.is_some() { "function" } else { "expression" }, first.error.trim_end_matches('.'));
        let text = format!(
            "{failed} of the last {rows} rows fail{limit}: {error}. Correct the {of}, not the rows{regardless}."
        );
        Err(Error::blaming(first.cause.clone(), Kind::Config, text))
    }

    /// Returns true if a rule's condition could not be computed for any of the last rows: then the rule is wrong.
    pub(super) fn watch_rule(&mut self, node: usize, rule: usize, rows: usize, failed: usize) -> bool {
        let recent = self.failing_rules.entry((node, rule)).or_default();
        recent.add(rows, failed);
        recent.all()
    }
}
