//! Accumulators by key. Rows go in, and partial states or results come out once.

use crate::Result;
use crate::expr::Aggregate;
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

/// Accumulators for some groups.
pub(crate) struct Groups {
    key_schema: SchemaRef,
    /// None if there are no key columns. Then there is at most one group.
    values: Option<Box<dyn GroupValues>>,
    count: usize,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    indices: Vec<usize>,
}

impl Groups {
    pub(crate) fn new(key_schema: &SchemaRef, aggregates: &[Aggregate]) -> Result<Self> {
        let values = match key_schema.fields().is_empty() {
            true => None,
            false => Some(new_group_values(key_schema.clone(), &GroupOrdering::None)?),
        };
        let accumulators = aggregates.iter().map(Aggregate::accumulator).collect::<Result<_>>()?;
        Ok(Self { key_schema: key_schema.clone(), values, count: 0, accumulators, indices: vec![] })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
    pub(crate) fn memory(&self) -> usize {
        self.values.as_ref().map_or(0, |v| v.size()) + self.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        match &mut self.values {
            Some(values) => {
                values.intern(keys, &mut self.indices)?;
                self.count = values.len();
            }
            None => {
                self.indices.clear();
                self.indices.resize(rows, 0);
                self.count = self.count.max(usize::from(rows > 0));
            }
        }
        Ok(())
    }

    /// Adds rows. `arguments` and `filters` have the form that each aggregate needs.
    pub(crate) fn update(
        &mut self,
        keys: &[ArrayRef],
        arguments: &[Vec<ArrayRef>],
        filters: &[Option<BooleanArray>],
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.intern(keys, rows)?;
        for ((acc, args), filter) in self.accumulators.iter_mut().zip(arguments).zip(filters) {
            acc.update_batch(args, &self.indices, filter.as_ref(), self.count)?;
        }
        Ok(())
    }

    /// The keys and partial states of the groups. By value, because DataFusion's tables must not be used again after
    /// they have emitted everything.
    pub(crate) fn into_states(mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let keys = self.take_keys()?;
        let mut states = vec![];
        for acc in &mut self.accumulators {
            states.extend(acc.state(EmitTo::All)?);
        }
        Ok((keys, states))
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        let Some(values) = &mut self.values else { return Ok(vec![]) };
        let keys = values.emit(EmitTo::All)?;
        // Some implementations return a different representation of the same values.
        keys.iter()
            .zip(self.key_schema.fields())
            .map(|(k, f)| if k.data_type() == f.data_type() { Ok(k.clone()) } else { Ok(cast(k, f.data_type())?) })
            .collect()
    }
}

/// For tests of aggregates: states that are merged, and results.
#[cfg(test)]
impl Groups {
    /// Merges partial states: one row for each group, with the states of all aggregates one after the other.
    pub(crate) fn merge(
        &mut self,
        keys: &[ArrayRef],
        states: &[ArrayRef],
        aggregates: &[Aggregate],
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.intern(keys, rows)?;
        let mut at = 0;
        for (acc, aggregate) in self.accumulators.iter_mut().zip(aggregates) {
            let width = aggregate.state_fields()?.len();
            acc.merge_batch(&states[at..at + width], &self.indices, self.count)?;
            at += width;
        }
        Ok(())
    }

    /// The keys and results of the groups.
    pub(crate) fn into_results(mut self, aggregates: &[Aggregate]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let keys = self.take_keys()?;
        let mut results = vec![];
        for (acc, aggregate) in self.accumulators.iter_mut().zip(aggregates) {
            results.push(aggregate.finish(acc.evaluate(EmitTo::All)?)?);
        }
        Ok((keys, results))
    }
}
