//! Rules, and the handling of rows that fail, are late or are refused.

use super::Step;
use super::{Engine, kept};
use crate::batch::{Batch, FailedRow, LateRow};
use crate::expect::Counts;
use crate::flow::source::OnMalformed;
use crate::sink::Refused;
use crate::sink::quarantine::{Reject, RejectSource, Stage, element_as_json, row_as_json};
use crate::time::EventTime;
use crate::{Error, Kind, Result};
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use std::sync::Arc;

impl Engine {
    pub(super) fn reject(
        &mut self,
        node: usize,
        stage: Stage,
        rules: Vec<Arc<str>>,
        error: Arc<str>,
        from: RejectSource,
    ) {
        if self.silent[node] {
            return;
        }
        self.counts.quarantined += 1;
        let dataset = self.plan.nodes[node].dataset.clone();
        self.rejects.push(Reject { stage, dataset, rules, error, from });
    }

    pub(super) fn source_of(batch: &Batch, row: u32) -> RejectSource {
        match &batch.origin {
            Some(o) if o.elements.is_empty() => {
                RejectSource::Message(o.messages.clone(), o.message(row as usize) as u32)
            }
            Some(o) => {
                let json = element_as_json(&batch.rows, row as usize, o.element(row as usize));
                RejectSource::Element(o.messages.clone(), o.message(row as usize) as u32, json)
            }
            None => RejectSource::Row(row_as_json(&batch.rows, row as usize)),
        }
    }

    pub(super) fn place(batch: &Batch, row: u32) -> String {
        match &batch.origin {
            Some(o) if o.elements.is_empty() => o.messages.place(o.message(row as usize)),
            Some(o) => {
                let name = |place: Option<u32>| place.map_or("none".into(), |p| p.to_string());
                let element: Vec<String> = o.element(row as usize).map(name).collect();
                format!("{} element {}", o.messages.place(o.message(row as usize)), element.join("."))
            }
            None => format!("row {row}"),
        }
    }

    /// The error, with the place of the row as facts.
    fn located(&self, batch: &Batch, row: u32, error: Error) -> Error {
        let error = error.in_epoch(self.epoch);
        match &batch.origin {
            Some(o) => o.messages.locate(o.message(row as usize), error),
            None => error,
        }
    }

    pub(super) fn failed_rows(&mut self, node: usize, batch: &Batch, failed: &[FailedRow]) -> Result<()> {
        self.failed_at(node, Stage::Transform, batch, failed)
    }

    pub(super) fn failed_at(&mut self, node: usize, stage: Stage, batch: &Batch, failed: &[FailedRow]) -> Result<()> {
        self.watch_failed(node, batch.len(), failed)?;
        let Some(first) = failed.first() else { return Ok(()) };
        self.counts.failed_rows += failed.len() as u64;
        match self.policy(node) {
            OnMalformed::Fail => Err(self.located(batch, first.row, Error::blaming(first.cause.clone(), Kind::Malformed, format!(
                "{}{}: {}. To continue without such rows, use on_malformed=\"drop\", or \"quarantine\" where a table is written.",
                self.epoch.map_or(String::new(), |n| format!("epoch {n}, ")),
                Self::place(batch, first.row),
                first.error.trim_end_matches('.')
            )))),
            OnMalformed::Drop => Ok(()),
            OnMalformed::Quarantine => {
                for f in failed {
                    let from = Self::source_of(batch, f.row);
                    self.reject(node, stage, vec![], f.error.as_str().into(), from);
                }
                Ok(())
            }
        }
    }

    /// Groups for which an aggregate, or an expression over aggregates, cannot be computed. They are set aside as rows are. A complete result
    /// computes such a group again in each epoch, and sets it aside once.
    pub(super) fn failed_groups(&mut self, node: usize, operator: usize, failed: Vec<(Batch, Error)>) -> Result<()> {
        let Some((first, error)) = failed.first() else { return Ok(()) };
        self.counts.failed_rows += failed.len() as u64;
        if self.policy(node) == OnMalformed::Fail {
            let keys: Vec<String> = first.rows.schema().fields().iter().map(|f| f.name().clone()).collect();
            let start = first.rows.column_by_name("window_start").and_then(|c| {
                let at = c.as_primitive_opt::<TimestampMicrosecondType>()?.value(0);
                Some(format!("the window that begins at {}, ", EventTime(at).rfc3339()))
            });
            let e = Error::blaming(
                error.source.clone(),
                Kind::Malformed,
                format!(
                    "{}{}a group by {}: {error}. To set such groups aside, use on_malformed=\"quarantine\" where a table is written, or \"drop\"; or \
                 compute the expression behind the aggregate, with_columns(\"…\"), with a try_ function.",
                    self.epoch.map_or(String::new(), |n| format!("epoch {n}, ")),
                    start.unwrap_or_default(),
                    if keys.is_empty() { "nothing".into() } else { keys.join(", ") },
                ),
            );
            return Err(e.in_epoch(self.epoch));
        }
        if self.policy(node) == OnMalformed::Drop {
            return Ok(());
        }
        let table = self.plan.operators[operator].name.clone();
        for (group, error) in failed {
            let from = Self::source_of(&group, 0);
            let complete = self.plan.operators[operator].kind.is_complete();
            if complete
                && let RejectSource::Row(json) = &from
                && !self.set_aside.add(&table, json)
            {
                continue;
            }
            self.reject(node, Stage::Aggregate, vec![], error.message.as_str().into(), from);
        }
        Ok(())
    }

    /// Counts rows that came too late, and sets them aside if the options of the watermark say so.
    pub(super) fn late_rows(&mut self, node: usize, operator: usize, late: &[(&Batch, &LateRow)]) {
        self.counts.operators[operator].late += late.len() as u64;
        if !self.plan.nodes[node].trackers.iter().any(|t| self.trackers[*t].spec.quarantine_late) {
            return;
        }
        let why = self.plan.operators[operator].kind.why_late();
        for (batch, row) in late {
            let text: Arc<str> = match row.behind {
                None => "the event time is NULL".into(),
                Some(d) => format!("late by {:.3} s: {why}", d.as_secs_f64()).into(),
            };
            self.reject(node, Stage::Late, vec![], text, Self::source_of(batch, row.row));
        }
    }

    /// Sets aside the rows that a table does not accept, and returns the others. A complete result has its rows again in each epoch, so there
    /// each row is set aside once.
    pub(crate) fn refuse(
        &mut self,
        table: &str,
        complete: bool,
        batch: &Batch,
        refused: Vec<Refused>,
    ) -> Result<Batch> {
        let keep = kept(batch.len(), &refused);
        for r in refused {
            let from = Self::source_of(batch, r.row);
            if complete
                && let RejectSource::Row(json) = &from
                && !self.set_aside.add(table, json)
            {
                continue;
            }
            self.counts.quarantined += 1;
            self.rejects.push(Reject {
                stage: Stage::Table,
                dataset: table.into(),
                rules: r.rules,
                error: r.error,
                from,
            });
        }
        batch.filter(&keep)
    }

    pub(super) fn judge(&mut self, node: usize, batch: Batch) -> Result<Batch> {
        let Step::Expect(set) = &self.plan.nodes[node].step else { return Ok(batch) };
        let set = set.clone();
        let dataset = self.plan.nodes[node].dataset.clone();
        let judged = set.judge(&batch)?;
        for (i, (failed, why)) in judged.uncomputed.iter().enumerate() {
            if self.watch_rule(node, i, batch.len(), *failed) {
                let rule = &set.rules[i];
                return Err(Error::config(format!(
                    "expectation '{}' of '{dataset}': {} cannot be computed for any of the last rows ({}). Correct the rule, not the rows.",
                    rule.name,
                    rule.condition.sql,
                    why.as_deref().unwrap_or_default()
                )));
            }
        }
        if let Some((row, rule)) = judged.fatal {
            let rule = &set.rules[rule];
            let e = Error::expectation(format!(
                "expectation '{}' of '{dataset}' failed: {} does not hold for {}. Nothing of this epoch is written.",
                rule.name,
                rule.condition.sql,
                Self::place(&batch, row)
            ));
            return Err(self.located(&batch, row, e));
        }
        for (rule, counts) in set.rules.iter().zip(&judged.counts).filter(|_| !self.silent[node]) {
            let key = (dataset.clone(), rule.name.clone());
            self.counts.rules.entry(key).or_insert((rule.action, Counts::default())).1.add(*counts);
        }
        self.counts.dropped += judged.dropped;
        for (row, broken) in &judged.quarantined {
            let rules = broken.iter().map(|i| set.rules[*i].name.clone()).collect::<Vec<_>>();
            let error = format!("breaks {}", rules.iter().map(|r| format!("'{r}'")).collect::<Vec<_>>().join(", "));
            self.reject(node, Stage::Expectation, rules, error.into(), Self::source_of(&batch, *row));
        }
        Ok(judged.batch)
    }
}
