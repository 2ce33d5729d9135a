//! Compares the columns of the table with those of the stream: how they fit, what is refused, and what
//! `schema_mode="merge"` changes.

use super::admission::{Admission, Check, fingerprint};
use super::commit::waiting;
use super::files::FileWriter;
use super::fit::{Fit, find, fits, relaxed, written_type};
use super::stage::in_columns_of;
use super::tail::Tail;
use super::{Table, TableSpec, quiet, within};
use crate::expr::type_to_ddl;
use crate::sink::{Refused, WaitingFile};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::*;
use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, StructField, StructType};
use deltalake::protocol::DeltaOperation;
use serde_json::Value;
use std::sync::Arc;

/// A schema change that loses a race is repeated on the newer version, at most this many times.
const ATTEMPTS: usize = 10;

/// The differences between the schema of the stream and that of the table.
#[derive(Default)]
pub(in crate::sink) struct Wanted {
    /// Columns of the stream that the table does not have.
    pub columns: Vec<FieldRef>,
    /// Columns that need new fields within them.
    pub wider: Vec<FieldRef>,
    /// Columns that are NOT NULL in the table and can be NULL in the stream.
    pub nullable: Vec<String>,
    /// Columns that are NOT NULL in the table and not in the stream.
    pub missing: Vec<String>,
}

/// The columns of a stream, and those of the table that they are for, to be compared.
pub(in crate::sink) struct Beside<'a> {
    /// The table as messages name it.
    pub place: &'a str,
    pub stream: &'a Schema,
    pub table: &'a Schema,
    /// The partition columns of the table.
    pub partitions: &'a [String],
    /// The partition columns that the user gave.
    pub partition_by: &'a [String],
    pub merge_schema: bool,
}

impl Beside<'_> {
    /// The changes of the table that the stream needs. An error if the stream does not fit, or fits only with
    /// `schema_mode="merge"`.
    pub(crate) fn compare(&self) -> Result<Wanted> {
        let place = self.place;
        let mut wanted = Wanted::default();
        for field in self.stream.fields() {
            let Some(old) = find(self.table.fields(), field.name()) else {
                wanted.columns.push(field.clone());
                continue;
            };
            match fits(field.data_type(), old.data_type()) {
                Fit::Same => {}
                Fit::Wider => wanted.wider.push(field.clone()),
                Fit::Not => return Err(self.mismatch(field, old)),
            }
            if field.is_nullable() && !old.is_nullable() {
                wanted.nullable.push(old.name().clone());
            }
        }
        let absent = self.table.fields().iter().filter(|old| find(self.stream.fields(), old.name()).is_none());
        wanted.missing = absent.filter(|old| !old.is_nullable()).map(|old| old.name().clone()).collect();
        let partitions = self.partitions;
        let same = partitions.len() == self.partition_by.len()
            && partitions.iter().zip(self.partition_by).all(|(a, b)| a.to_lowercase() == b.to_lowercase());
        if !same {
            return Err(Error::config(format!(
                "{place}: the table is partitioned by {partitions:?}, and partition_by says {:?}. Partitions of a table cannot change.",
                self.partition_by
            )));
        }
        if self.merge_schema {
            return Ok(wanted);
        }
        if let Some(name) = wanted.missing.first() {
            return Err(Error::schema(format!(
                "{place}: the table's column '{name}' is NOT NULL, and the stream does not have it. Add it to the \
                 stream, or use schema_mode=\"merge\" to make the column nullable."
            )));
        }
        let names: Vec<&str> = wanted.columns.iter().map(|f| f.name().as_str()).collect();
        if !names.is_empty() {
            return Err(Error::schema(format!(
                "{place}: the stream has new columns {names:?}. To add them to the table, use schema_mode=\"merge\"."
            )));
        }
        if let Some(field) = wanted.wider.first() {
            return Err(Error::schema(format!(
                "{place}: the stream's column '{}' has fields that the table's column does not have: it is {} in the \
                 stream. To add them to the table, use schema_mode=\"merge\".",
                field.name(),
                type_to_ddl(field.data_type())
            )));
        }
        Ok(wanted)
    }

    /// The columns of the stream in the spelling and types of the table.
    pub(crate) fn written(&self) -> Result<SchemaRef> {
        let mut fields = vec![];
        for field in self.stream.fields() {
            let Some(old) = find(self.table.fields(), field.name()) else {
                return Err(Error::schema(format!(
                    "{}: the table does not have the column '{}' any more",
                    self.place,
                    field.name()
                )));
            };
            fields.push(Field::new(old.name(), written_type(field.data_type(), old.data_type()), true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Notes for the user about how the stream fits.
    pub(crate) fn notes(&self, wanted: &Wanted) -> Vec<String> {
        let one = |name: &String| {
            format!(
                "{}: '{name}' is NOT NULL in the table and can be NULL in the stream; rows with NULL there go to quarantine \
                 (schema_mode=\"merge\" makes the column nullable)",
                self.place
            )
        };
        wanted.nullable.iter().map(one).collect()
    }

    fn mismatch(&self, field: &Field, old: &Field) -> Error {
        let (name, place) = (field.name(), self.place);
        let (theirs, ours) = (type_to_ddl(old.data_type()), type_to_ddl(field.data_type()));
        let way = match old.data_type().is_nested() || field.data_type().is_nested() {
            true => format!("Read it with the type of the table: schema=\"… {name} {theirs}\""),
            false => format!("Convert it with with_columns(\"CAST(`{name}` AS {theirs}) AS `{name}`\")"),
        };
        Error::schema(format!(
            "{place}: column '{}' is {theirs} in the table and {ours} in the stream. {way}. Or write to a different table.",
            old.name()
        ))
    }
}

impl TableSpec {
    fn beside<'a>(&'a self, place: &'a str, table: &'a Schema, partitions: &'a [String]) -> Beside<'a> {
        Beside {
            place,
            stream: &self.schema,
            table,
            partitions,
            partition_by: &self.partition_by,
            merge_schema: self.merge_schema,
        }
    }
}

impl Table {
    /// A table that has just been loaded, with its schema changed for the stream if necessary.
    pub(super) async fn reconciled(spec: TableSpec, table: DeltaTable) -> Result<Self> {
        let nothing = Admission::new("", &Schema::empty(), &Arc::new(Schema::empty()), &[], &[], String::new())?;
        let written = spec.schema.clone();
        let tail = Tail::new(table.version().unwrap_or_default());
        let mut this = Self {
            tail,
            spec,
            admission: Arc::new(nothing),
            written,
            notes: vec![],
            metrics: Default::default(),
            table,
        };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            this.check_usable()?;
            // Computed again each time, because the table can have changed.
            let wanted = this.compare()?;
            if !this.spec.merge_schema || wanted.is_empty() {
                this.learn()?;
                return Ok(this);
            }
            last = this.merge_schema(&wanted).await.err();
            this.refresh().await?;
        }
        Err(last.unwrap_or_else(|| {
            Error::storage(format!("{}: the columns of the table keep changing", this.spec.location.display()))
        }))
    }

    /// Updates the requirements for rows after the schema or the properties of the table have changed. Returns whether
    /// they differ.
    pub(super) fn learn(&mut self) -> Result<bool> {
        let now = self.state();
        if now == self.admission.fingerprint {
            return Ok(false);
        }
        let checks = self.check_usable()?;
        let place = self.spec.location.display();
        let (existing, partitions) = (self.arrow_schema()?, self.partition_columns()?);
        let beside = self.spec.beside(&place, &existing, &partitions);
        let wanted = beside.compare()?;
        self.written = beside.written()?;
        self.notes = beside.notes(&wanted);
        self.admission = Arc::new(Admission::new(&place, &self.spec.schema, &existing, &partitions, &checks, now)?);
        Ok(true)
    }

    /// The partition columns in the spelling of the table.
    pub(super) fn partition_columns(&self) -> Result<Vec<String>> {
        Ok(self.snapshot()?.metadata().partition_columns().to_vec())
    }

    pub(super) fn metadata_json(&self) -> Value {
        self.snapshot().ok().and_then(|s| serde_json::to_value(s.metadata()).ok()).unwrap_or_default()
    }

    /// Identifies the requirements against which rows are checked.
    pub(crate) fn fingerprint(&self) -> String {
        self.admission.fingerprint.clone()
    }

    /// The rows, in the columns of the stream, that the table does not accept.
    pub(crate) fn judge(&self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        self.admission.judge(rows)
    }

    /// Data files of these rows. No version refers to them yet.
    pub(crate) async fn write(&self, rows: &[RecordBatch]) -> Result<Vec<WaitingFile>> {
        let mut writer = FileWriter::new(self.properties(self.written.clone())?);
        for batch in rows.iter().filter(|b| b.num_rows() > 0) {
            writer.write(&in_columns_of(&self.written, batch)?).await?;
        }
        writer.close().await?.iter().map(waiting).collect()
    }

    /// Identifies the table's requirements for rows in this version.
    fn state(&self) -> String {
        let metadata = self.metadata_json();
        let protocol = self.snapshot().ok().and_then(|s| serde_json::to_string(s.protocol()).ok()).unwrap_or_default();
        let text = |key: &str| metadata.get(key).map(Value::to_string).unwrap_or_default();
        let mut properties: Vec<String> = metadata
            .get("configuration")
            .and_then(Value::as_object)
            .map(|c| c.iter().map(|(k, v)| format!("{k}={v}")).collect())
            .unwrap_or_default();
        properties.sort();
        fingerprint(&[&text("schemaString"), &text("partitionColumns"), &properties.join("\n"), &protocol])
    }

    fn compare(&self) -> Result<Wanted> {
        let (place, existing, partitions) =
            (self.spec.location.display(), self.arrow_schema()?, self.partition_columns()?);
        self.spec.beside(&place, &existing, &partitions).compare()
    }

    /// Changes the schema of the table by a commit of its own: new columns and fields at the end, and NOT NULL removed
    /// where the stream needs it.
    async fn merge_schema(&self, wanted: &Wanted) -> Result<()> {
        let place = self.spec.location.display();
        let failed = |e: &dyn std::fmt::Display| Error::schema(format!("{place}: merging the columns: {e}"));
        let mut metadata = self.metadata_json();
        let text = metadata.get("schemaString").and_then(Value::as_str).unwrap_or_default();
        let mut schema: Value = serde_json::from_str(text).map_err(|e| failed(&e))?;
        let missing = &wanted.missing;
        if let Some(fields) = schema.get_mut("fields").and_then(Value::as_array_mut) {
            for field in fields.iter_mut() {
                let name = field.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
                match find(self.spec.schema.fields(), &name) {
                    Some(stream) => merge_field(field, stream).map_err(|e| failed(&e.message))?,
                    None if missing.contains(&name) => field["nullable"] = true.into(),
                    None => {}
                }
            }
            for column in &wanted.columns {
                fields.push(field_json(column).map_err(|e| failed(&e.message))?);
            }
        }
        metadata["schemaString"] = schema.to_string().into();
        let added: Vec<StructField> = wanted
            .columns
            .iter()
            .filter_map(|f| field_json(f).ok().and_then(|j| serde_json::from_value(j).ok()))
            .collect();
        let changed = serde_json::from_value(metadata).map_err(|e| failed(&e))?;
        let operation = match added.is_empty() {
            false => DeltaOperation::AddColumn { fields: added },
            true => DeltaOperation::UpdateFieldMetadata { fields: vec![] },
        };
        let committing = async {
            let prepared = CommitBuilder::from(quiet())
                .with_actions(vec![Action::Metadata(changed)])
                .build(
                    Some(self.snapshot().map_err(|e| deltalake::DeltaTableError::Generic(e.message))?),
                    self.table.log_store(),
                    operation,
                )
                .into_prepared_commit_future()
                .await?;
            prepared.await.map(drop)
        };
        within(&self.spec.location, "merging the columns", committing).await
    }
}

impl Wanted {
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.wider.is_empty() && self.nullable.is_empty() && self.missing.is_empty()
    }
}

/// A column in Delta's schema. Existing rows do not have a value for it.
fn field_json(field: &Field) -> Result<Value> {
    let field = Field::new(field.name(), relaxed(field.data_type()), true);
    let kernel: StructType = (&Schema::new(vec![field])).try_into_kernel()?;
    let json = serde_json::to_value(&kernel).map_err(|e| Error::internal(e.to_string()))?;
    json.get("fields").and_then(|f| f.get(0)).cloned().ok_or_else(|| Error::internal("a schema without fields"))
}

fn merge_field(field: &mut Value, stream: &Field) -> Result<()> {
    if stream.is_nullable() {
        field["nullable"] = true.into();
    }
    match field.get_mut("type") {
        Some(t) => merge_type(t, stream.data_type()),
        None => Ok(()),
    }
}

fn merge_type(t: &mut Value, stream: &DataType) -> Result<()> {
    match stream {
        DataType::Struct(theirs) => {
            let Some(fields) = t.get_mut("fields").and_then(Value::as_array_mut) else { return Ok(()) };
            let known: Vec<String> =
                fields.iter().filter_map(|f| Some(f.get("name")?.as_str()?.to_lowercase())).collect();
            for field in fields.iter_mut() {
                let name = field.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
                if let Some(stream) = find(theirs, &name) {
                    merge_field(field, stream)?;
                }
            }
            for new in theirs.iter().filter(|f| !known.contains(&f.name().to_lowercase())) {
                fields.push(field_json(new)?);
            }
        }
        DataType::List(element) | DataType::LargeList(element) => {
            if element.is_nullable() {
                t["containsNull"] = true.into();
            }
            if let Some(inner) = t.get_mut("elementType") {
                merge_type(inner, element.data_type())?;
            }
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Ok(()) };
            if pair[1].is_nullable() {
                t["valueContainsNull"] = true.into();
            }
            for (key, field) in [("keyType", &pair[0]), ("valueType", &pair[1])] {
                if let Some(inner) = t.get_mut(key) {
                    merge_type(inner, field.data_type())?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The constraints in the table's properties and columns, or the reason why it cannot be written.
pub(in crate::sink) fn checks(metadata: &Value) -> Vec<Check> {
    let mut out = vec![];
    let configuration = metadata.get("configuration").and_then(Value::as_object);
    for (key, text) in configuration.into_iter().flatten() {
        if let (Some(name), Some(text)) = (key.strip_prefix("delta.constraints."), text.as_str()) {
            out.push(Check { name: name.into(), text: text.into() });
        }
    }
    let schema = metadata.get("schemaString").and_then(Value::as_str).unwrap_or_default();
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    for field in schema.get("fields").and_then(Value::as_array).into_iter().flatten() {
        let invariant = field.get("metadata").and_then(|m| m.get("delta.invariants")).and_then(Value::as_str);
        let Some(invariant) = invariant.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { continue };
        if let Some(text) = invariant.get("expression").and_then(|e| e.get("expression")).and_then(Value::as_str) {
            let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
            out.push(Check { name: format!("invariant of {name}"), text: text.into() });
        }
    }
    out
}
