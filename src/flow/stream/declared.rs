//! The columns of a table that is created for a stream. A column is NOT NULL only if the user declared it so.

use super::{Op, Stream};
use crate::expr::{Selected, resolve_column};
use crate::sink::delta::relaxed;
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

impl Stream {
    /// The stream's columns, as a new table declares them. An expression that is never NULL today may be NULL after a later change, and the table
    /// must still accept it.
    pub fn declared_schema(&self) -> SchemaRef {
        let fields = self.schema().fields().iter().zip(self.declared());
        let field = |(f, declared): (&Arc<Field>, bool)| match declared {
            true => f.as_ref().clone(),
            false => Field::new(f.name(), relaxed(f.data_type()), true),
        };
        Arc::new(Schema::new(fields.map(field).collect::<Vec<_>>()))
    }

    /// For each column: whether it comes from the user's own schema and is passed on unchanged.
    fn declared(&self) -> Vec<bool> {
        let schema = self.schema();
        let inputs = &self.0.inputs;
        // Looks the column up by name, for steps that pass columns of an input on.
        let of = |input: &Stream, name: &str| {
            let declared = input.declared();
            resolve_column(name, input.schema()).is_ok_and(|i| declared[i])
        };
        let named = |f: &dyn Fn(&str) -> bool| schema.fields().iter().map(|c| f(c.name())).collect();
        match &self.0.op {
            Op::Kafka(source) => named(&|name| source.schema.as_ref().is_some_and(|s| s.index_of(name).is_ok())),
            Op::Messages(source) => named(&|name| source.schema.as_ref().is_some_and(|s| s.index_of(name).is_ok())),
            Op::Map(_) => vec![true; schema.fields().len()],
            Op::Rows(_) => vec![false; schema.fields().len()],
            Op::Union => named(&|name| inputs.iter().all(|i| of(i, name))),
            Op::Project(project) => {
                let before = inputs[0].declared();
                project.columns.iter().map(|c| c.as_column().is_some_and(|i| before[i])).collect()
            }
            Op::Explode(explode) => {
                let before = inputs[0].declared();
                let declared = |item: &Selected| match item {
                    Selected::Column(c) => c.as_column().is_some_and(|i| before[i]),
                    Selected::Generated(_) => false,
                };
                explode.items.iter().map(declared).collect()
            }
            Op::Aggregate(spec) => {
                let before = inputs[0].declared();
                let keys: Vec<&str> = spec
                    .keys
                    .iter()
                    .filter(|k| k.as_column().is_some_and(|i| before[i]))
                    .map(|k| k.name.as_str())
                    .collect();
                let aggregates = spec.aggregation.outputs();
                named(&|name| keys.contains(&name) && !aggregates.iter().any(|a| a.name() == name))
            }
            Op::Decode(d) => named(&|name| name != d.result_name() && of(&inputs[0], name)),
            // Columns of the right side come from a table, or can be NULL.
            Op::IntervalJoin(_) | Op::StaticJoin(_) => named(&|name| of(&inputs[0], name)),
            Op::Filter(_) | Op::Expect(_) | Op::Watermark(_) | Op::Named(_) | Op::Table(_) | Op::Deduplicate(_) => {
                inputs[0].declared()
            }
        }
    }
}
