//! The way of a batch through the plan, from step to step.
//!
//! A step that makes many rows of one row hands them on one batch at a time. The caller must call `go_on`, and take its rows, until nothing is
//! left. So the rows of a chunk are never all in memory.

use super::Engine;
use crate::Result;
use crate::batch::Batch;
use crate::time::EventTime;
use crate::transform::Exploding;

impl Engine {
    /// Sends a batch down from `from`; every node's output is computed once.
    pub(super) fn run(&mut self, from: usize, batch: Batch, now: EventTime) -> Result<()> {
        let mut values: Vec<Vec<Batch>> = self.plan.nodes.iter().map(|_| vec![]).collect();
        values[from].push(batch);
        for node in from + 1..self.plan.nodes.len() {
            self.feed(node, &mut values, now)?;
        }
        self.collect(&values);
        Ok(())
    }

    /// Runs the batches at a node's inputs through the node.
    pub(super) fn feed(&mut self, node: usize, values: &mut [Vec<Batch>], now: EventTime) -> Result<()> {
        let inputs = self.plan.nodes[node].inputs.clone();
        for (which, input) in inputs.iter().enumerate() {
            for batch in values[*input].clone() {
                if batch.is_empty() {
                    continue;
                }
                self.step(node, which, batch, now, &mut values[node])?;
            }
        }
        Ok(())
    }

    pub(super) fn collect(&mut self, values: &[Vec<Batch>]) {
        for (target, node) in self.plan.outputs.iter().enumerate() {
            for batch in &values[*node] {
                if !batch.is_empty() {
                    self.outputs[target].push(batch.clone());
                }
            }
        }
    }

    /// Hands on the first batch of the rows that are being made, and remembers the others. At the end of an epoch all rows are made at once,
    /// because the rows that the next step emits depend on them.
    pub(super) fn explode(
        &mut self,
        node: usize,
        mut rows: Exploding,
        now: EventTime,
        to: &mut Vec<Batch>,
    ) -> Result<()> {
        while let Some(batch) = rows.next()? {
            to.push(batch);
            if !self.ending {
                break;
            }
        }
        if !rows.is_done() {
            self.unfinished.push((node, rows, now));
        }
        Ok(())
    }

    /// Whether `go_on` would make rows.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Makes more rows of the batches that were pushed. Returns false if nothing is left.
    pub(crate) fn go_on(&mut self) -> Result<bool> {
        let Some((node, mut rows, now)) = self.unfinished.pop() else { return Ok(false) };
        // The remaining rows of a batch have the same time for `current_timestamp()` as its earlier rows.
        let _moment = self.moment(now);
        let next = rows.next()?;
        if !rows.is_done() {
            self.unfinished.push((node, rows, now));
        }
        if let Some(batch) = next {
            self.run(node, batch, now)?;
        }
        Ok(true)
    }
}
