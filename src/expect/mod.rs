//! Data-quality rules and their counts.
//!
//! A rule holds for a row only when its condition is TRUE. Rules that stand next to each other are one set: each is
//! counted on every row that comes in, and of the rules that a row breaks the strongest action wins.

use crate::Result;
use crate::batch::Batch;
use crate::expr::Bound;
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What becomes of a row that breaks a rule, weakest first.
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

/// How often a rule held.
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
    /// The share of rows that broke the rule; 0 when there was none.
    pub fn failed_ratio(self) -> f64 {
        let all = self.passed + self.failed;
        if all == 0 { 0.0 } else { self.failed as f64 / all as f64 }
    }
}

/// A set of adjacent rules.
#[derive(Clone, Default)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
}

/// What a rule set makes of a batch.
pub struct Judged {
    pub batch: Batch,
    pub counts: Vec<Counts>,
    /// Rows to be quarantined, with the indices of all rules that each breaks.
    pub quarantined: Vec<(u32, Vec<usize>)>,
    pub dropped: u64,
    /// The first row that breaks an `expect_or_fail` rule: (row, rule).
    pub fatal: Option<(u32, usize)>,
    /// By rule, for how many rows its condition could not be computed, and why for the first.
    pub uncomputed: Vec<(usize, Option<String>)>,
}

impl RuleSet {
    pub fn judge(&self, input: &Batch) -> Result<Judged> {
        let rows = input.len();
        let mut counts = Vec::with_capacity(self.rules.len());
        let mut holds: Vec<BooleanBuffer> = Vec::with_capacity(self.rules.len());
        let mut uncomputed = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            // A row for which the condition cannot be computed is NULL here, and so has failed.
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
