//! Data-quality rules and their counts.
//!
//! A row passes a rule only if the condition is TRUE. Consecutive rules are one set. Each rule is counted on every
//! incoming row. Among the rules that a row breaks, the strongest action wins.

use crate::Result;
use crate::batch::Batch;
use crate::expr::Bound;
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What happens to a row that breaks a rule, weakest action first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Keep,
    Drop,
    Quarantine,
    Fail,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Keep => "keep",
            Action::Drop => "drop",
            Action::Quarantine => "quarantine",
            Action::Fail => "fail",
        }
    }
}

#[derive(Clone)]
pub struct Rule {
    pub name: Arc<str>,
    pub condition: Bound,
    pub action: Action,
}

/// How many rows passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    #[serde(rename = "passedRecords")]
    pub passed: u64,
    #[serde(rename = "failedRecords")]
    pub failed: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
    /// The share of rows that broke the rule. 0 if there were no rows.
    pub fn failed_ratio(self) -> f64 {
        let all = self.passed + self.failed;
        if all == 0 { 0.0 } else { self.failed as f64 / all as f64 }
    }
}

/// A set of consecutive rules.
#[derive(Clone, Default)]
pub(crate) struct RuleSet {
    pub rules: Vec<Rule>,
}

/// The result of a rule set for a batch.
pub(crate) struct Judged {
    pub batch: Batch,
    pub counts: Vec<Counts>,
    /// Rows for the quarantine table, with the indices of all rules that each row breaks.
    pub quarantined: Vec<(u32, Vec<usize>)>,
    pub dropped: u64,
    /// The first row that breaks an `expect_or_fail` rule: (row, rule).
    pub fatal: Option<(u32, usize)>,
    /// For each rule, the number of rows for which its condition failed with an error, and the first reason.
    pub uncomputed: Vec<(usize, Option<String>)>,
}

impl RuleSet {
    pub(crate) fn judge(&self, input: &Batch) -> Result<Judged> {
        let rows = input.len();
        let mut counts = Vec::with_capacity(self.rules.len());
        let mut holds: Vec<BooleanBuffer> = Vec::with_capacity(self.rules.len());
        let mut uncomputed = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            // The condition is NULL for a row for which it cannot be computed. So the row has failed.
            let (array, errors) = rule.condition.evaluate_rows(&input.rows)?;
            uncomputed.push((errors.len(), errors.into_iter().next().map(|(_, e)| e)));
            let mask = held(array.as_boolean());
            let passed = mask.count_set_bits() as u64;
            counts.push(Counts { passed, failed: rows as u64 - passed });
            holds.push(mask);
        }
        let broken = |i: usize| counts[i].failed > 0 && self.rules[i].action > Action::Keep;
        if !(0..self.rules.len()).any(broken) {
            return Ok(Judged {
                batch: input.clone(),
                counts,
                quarantined: vec![],
                dropped: 0,
                fatal: None,
                uncomputed,
            });
        }
        let mut fatal: Option<(u32, usize)> = None;
        let mut keep = BooleanBuffer::new_set(rows);
        let mut aside = BooleanBuffer::new_unset(rows);
        for (i, (rule, mask)) in self.rules.iter().zip(&holds).enumerate() {
            match rule.action {
                Action::Keep => continue,
                Action::Fail => {
                    if let Some(row) = (!mask).set_indices().next()
                        && fatal.is_none_or(|(r, _)| (row as u32) < r)
                    {
                        fatal = Some((row as u32, i));
                    }
                }
                Action::Quarantine => aside = &aside | &!mask,
                Action::Drop => {}
            }
            keep = &keep & mask;
        }
        let quarantined: Vec<(u32, Vec<usize>)> = aside
            .set_indices()
            .map(|row| (row as u32, (0..holds.len()).filter(|i| !holds[*i].value(row)).collect()))
            .collect();
        let dropped = (rows - keep.count_set_bits() - quarantined.len()) as u64;
        let batch = input.filter(&BooleanArray::new(keep, None))?;
        Ok(Judged { batch, counts, quarantined, dropped, fatal, uncomputed })
    }
}

fn held(condition: &BooleanArray) -> BooleanBuffer {
    match condition.nulls() {
        Some(nulls) => condition.values() & nulls.inner(),
        None => condition.values().clone(),
    }
}

#[cfg(test)]
mod test;
