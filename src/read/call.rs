//! The common parts of scalars and aggregates of Spark's language, as functions of the planner.

use super::language::argument;
use super::spoken::Name;
use crate::Error;
use crate::time::EventTime;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result as DfResult};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A text that is bound when the types of its arguments are known. `T` is the result of binding.
pub(super) struct Call<T> {
    pub name: String,
    pub text: String,
    /// The names of the arguments in the text.
    pub columns: Vec<String>,
    pub names: Vec<String>,
    pub moment: EventTime,
    /// The results of binding, by the types of the arguments.
    bound: Mutex<HashMap<Vec<DataType>, Arc<T>>>,
    bound_name: Mutex<Option<String>>,
}

impl<T> Call<T> {
    pub(super) fn new(name: String, text: String, columns: Vec<String>, names: &[Name], moment: EventTime) -> Self {
        let names = names.iter().map(Name::shown).collect();
        Self { name, text, columns, names, moment, bound: Mutex::default(), bound_name: Mutex::default() }
    }

    /// The same call, not bound yet.
    pub(super) fn again(&self) -> Self {
        Self {
            name: self.name.clone(),
            text: self.text.clone(),
            columns: self.columns.clone(),
            names: self.names.clone(),
            moment: self.moment,
            bound: Mutex::default(),
            bound_name: Mutex::default(),
        }
    }

    /// A part of the call, with only these arguments.
    pub(super) fn part(&self, text: &str, of: &[usize]) -> Self {
        let columns = of.iter().filter_map(|k| self.columns.get(*k).cloned()).collect();
        Self { text: text.to_string(), columns, ..self.again() }
    }

    pub(super) fn bound_name(&self) -> String {
        self.bound_name.lock().clone().unwrap_or_else(|| self.text.clone())
    }

    /// `bind` is called once for each list of types. It also returns the name of the result.
    pub(super) fn bound(
        &self,
        types: &[DataType],
        bind: impl FnOnce(&str, &SchemaRef) -> crate::Result<(T, Option<String>)>,
    ) -> DfResult<Arc<T>> {
        if let Some(bound) = self.bound.lock().get(types) {
            return Ok(bound.clone());
        }
        let (bound, name) = bind(&self.text, &self.schema(types.iter())).map_err(|e| self.failed(e))?;
        let bound = Arc::new(bound);
        *self.bound_name.lock() = name;
        self.bound.lock().insert(types.to_vec(), bound.clone());
        Ok(bound)
    }

    /// Any one of the results of binding, with its types.
    pub(super) fn any(&self) -> Option<(Vec<DataType>, Arc<T>)> {
        self.bound.lock().iter().next().map(|(types, bound)| (types.clone(), bound.clone()))
    }

    /// The arguments as columns of these types. An aggregate without arguments has one column, which the text does not name.
    pub(super) fn schema<'a>(&self, types: impl Iterator<Item = &'a DataType>) -> SchemaRef {
        let name = |k: usize| self.columns.get(k).cloned().unwrap_or_else(|| argument(k));
        let field = |(k, t): (usize, &DataType)| Field::new(name(k), super::plain_type(t), true);
        Arc::new(Schema::new(types.enumerate().map(field).collect::<Vec<_>>()))
    }

    pub(super) fn failed(&self, e: Error) -> DataFusionError {
        failed(e, &self.names)
    }
}

/// The arguments of a call as rows.
pub(super) fn rows_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> DfResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let plain = |(column, f): (ArrayRef, &FieldRef)| match column.data_type() == f.data_type() {
        true => Ok(column),
        // A partition column comes as a dictionary.
        false => arrow::compute::cast(&column, f.data_type()),
    };
    let columns = columns.into_iter().zip(schema.fields()).map(plain).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// An error with the names of columns instead of arguments.
pub(super) fn failed(e: Error, names: &[String]) -> DataFusionError {
    let mut message = e.message;
    // This advice is only for streams: SQL over tables has one dialect.
    if let Some(at) = message.find(" DataFusion has ") {
        message.truncate(at);
    }
    for (k, name) in names.iter().enumerate() {
        let argument = argument(k);
        message = message.replace(&format!("`{argument}`"), name).replace(&argument, name);
    }
    DataFusionError::External(Box::new(Error { message, ..e }))
}
