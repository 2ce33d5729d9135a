//! Checks which rows a table accepts. Rows that it does not accept are found before the seal, so that everything that
//! is sealed can be committed.
//!
//! A row is refused for: NULL in a NOT NULL column or in a NOT NULL field within a column; a year that readers do not
//! know; a text that is too long for VARCHAR(n); a partition value that readers take for NULL; and a broken CHECK
//! constraint. As in Delta, a constraint is broken if it is not TRUE.

use super::files::null_text;
use super::fit::{find, fit, relaxed};
use crate::expr::{Bound, Dialect, bind_predicate};
use crate::hash::hex;
use crate::sink::Refused;
use crate::{Error, Result};
use arrow::array::*;
use arrow::datatypes::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;

#[derive(Clone)]
struct Constraint {
    name: Arc<str>,
    text: String,
    condition: Bound,
}

/// The requirements of the table's schema and properties for a row.
#[derive(Clone)]
pub(crate) struct Admission {
    /// The table's field for each column of the stream.
    fields: Vec<FieldRef>,
    /// The fields that require anything of their values.
    watched: Vec<usize>,
    /// Text columns that are partition columns.
    texts: Vec<usize>,
    /// All columns of the table. Constraints can use them.
    table: SchemaRef,
    constraints: Vec<Constraint>,
    /// Changes when the schema or the properties of the table change the requirements.
    pub fingerprint: String,
}

/// A CHECK constraint of the table, or the invariant of a column.
pub(in crate::sink) struct Check {
    pub name: String,
    pub text: String,
}

/// The first and last day, and the first and last microsecond, that Delta's readers know.
const DAYS: (i32, i32) = (-719_162, 2_932_896);
const MICROS: (i64, i64) = (-62_135_596_800_000_000, 253_402_300_799_999_999);

impl Admission {
    pub(in crate::sink) fn new(
        place: &str,
        stream: &Schema,
        table: &SchemaRef,
        partition_by: &[String],
        checks: &[Check],
        fingerprint: String,
    ) -> Result<Self> {
        let mut fields = vec![];
        for field in stream.fields() {
            let found = find(table.fields(), field.name());
            let found = found.ok_or_else(|| {
                Error::schema(format!("{place}: the table does not have the column '{}' any more", field.name()))
            })?;
            fields.push(Arc::new(with_lengths(found)));
        }
        let watched = (0..fields.len()).filter(|i| is_watched(&fields[*i])).collect();
        let is_text = |i: &usize| {
            matches!(fields[*i].data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
                && partition_by.contains(fields[*i].name())
        };
        let texts = (0..fields.len()).filter(is_text).collect();
        // Bound to nullable columns, because the constraint itself decides about NULL.
        let nullable = |f: &FieldRef| Field::new(f.name(), plain(&relaxed(f.data_type())), true);
        let all: SchemaRef = Arc::new(Schema::new(table.fields().iter().map(nullable).collect::<Vec<_>>()));
        let bind = |check: &Check| {
            let condition = bind_predicate(&check.text, &all, Dialect::Databricks).map_err(|e| {
                Error::storage(format!(
                    "{place}: the table has the constraint '{}' ({}), which bayou cannot evaluate ({}), so it cannot \
                     check rows against it. Drop the constraint and use an expectation instead, or write to a \
                     different table.",
                    check.name, check.text, e.message
                ))
            })?;
            Ok(Constraint { name: check.name.as_str().into(), text: check.text.clone(), condition })
        };
        let constraints = checks.iter().map(bind).collect::<Result<_>>()?;
        Ok(Self { fields, watched, texts, table: all, constraints, fingerprint })
    }

    /// The rows that the table does not accept, in order, each with its first reason. `rows` has the columns of the
    /// stream.
    pub(crate) fn judge(&self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        let mut found: Vec<Refused> = vec![];
        for i in &self.watched {
            let mut bad = vec![];
            look(rows.column(*i), &self.fields[*i], self.fields[*i].name(), &mut bad);
            found.extend(bad.into_iter().map(|(row, error)| Refused {
                row: row as u32,
                rules: vec![],
                error: error.into(),
            }));
        }
        for i in &self.texts {
            let name = self.fields[*i].name();
            let texts = fit(rows.column(*i), &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            for row in (0..texts.len()).filter(|r| texts.is_valid(*r) && null_text(texts.value(*r))) {
                let error = format!("column '{name}': readers take this text for NULL in a partition column");
                found.push(Refused { row: row as u32, rules: vec![], error: error.into() });
            }
        }
        if !self.constraints.is_empty() {
            found.extend(self.constraints(rows)?);
        }
        if found.len() > 1 {
            // Stable sort: the first reason of a row is kept, together with the constraints that it breaks.
            found.sort_by_key(|f| f.row);
            found.dedup_by(|later, first| {
                let same = later.row == first.row;
                if same {
                    first.rules.append(&mut later.rules);
                }
                same
            });
        }
        Ok(found)
    }

    fn constraints(&self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        let column = |f: &FieldRef| match self.fields.iter().position(|t| t.name() == f.name()) {
            Some(i) => fit(rows.column(i), f.data_type()),
            None => Ok(new_null_array(f.data_type(), rows.num_rows())),
        };
        let columns = self.table.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let all = RecordBatch::try_new_with_options(self.table.clone(), columns, &options)?;
        let mut out = vec![];
        for c in &self.constraints {
            let (holds, _) = c.condition.evaluate_rows(&all)?;
            let holds = holds.as_boolean();
            if holds.true_count() == rows.num_rows() {
                continue;
            }
            for row in (0..rows.num_rows()).filter(|r| holds.is_null(*r) || !holds.value(*r)) {
                let error = format!("breaks the table's constraint '{}': {}", c.name, c.text);
                out.push(Refused { row: row as u32, rules: vec![c.name.clone()], error: error.into() });
            }
        }
        Ok(out)
    }
}

/// A text that identifies one state of the table's requirements.
pub(in crate::sink) fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(hash.finalize(), 8)
}

/// Types that expressions support.
fn plain(t: &DataType) -> DataType {
    match t {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

/// Spark stores VARCHAR(n) and CHAR(n) in this metadata, and the type is STRING. The metadata is at the column, also
/// for nested types.
const LENGTHS: &str = "__CHAR_VARCHAR_TYPE_STRING";

/// The column, with the lengths of nested types moved to their places: to the fields of structs, lists and maps.
fn with_lengths(field: &Field) -> Field {
    let Some(kept) = field.metadata().get(LENGTHS).filter(|_| field.data_type().is_nested()) else {
        return field.clone();
    };
    let kept = kept.trim_matches('"').to_lowercase();
    lengths(&mut kept.as_str(), field).unwrap_or_else(|| field.clone())
}

/// Reads one type, for example `array<struct<a:varchar(3),b:int>>`, from the beginning of `text`.
fn lengths(text: &mut &str, field: &Field) -> Option<Field> {
    let mut eat = |word: &str| text.strip_prefix(word).map(|rest| *text = rest).is_some();
    if eat("array<") {
        let (DataType::List(f) | DataType::LargeList(f)) = field.data_type() else { return None };
        let item = Arc::new(lengths(text, f)?);
        let list = match field.data_type() {
            DataType::List(_) => DataType::List(item),
            _ => DataType::LargeList(item),
        };
        *text = text.strip_prefix('>')?;
        return Some(field.clone().with_data_type(list));
    }
    if eat("map<") {
        let DataType::Map(entries, sorted) = field.data_type() else { return None };
        let DataType::Struct(pair) = entries.data_type() else { return None };
        let key = lengths(text, pair.first()?)?;
        *text = text.strip_prefix(',')?;
        let value = lengths(text, pair.get(1)?)?;
        *text = text.strip_prefix('>')?;
        let pair = DataType::Struct(vec![Arc::new(key), Arc::new(value)].into());
        let entries = Arc::new(entries.as_ref().clone().with_data_type(pair));
        return Some(field.clone().with_data_type(DataType::Map(entries, *sorted)));
    }
    if eat("struct<") {
        let DataType::Struct(fields) = field.data_type() else { return None };
        let mut fields: Vec<FieldRef> = fields.iter().cloned().collect();
        loop {
            let (name, rest) = text.split_once(':')?;
            *text = rest;
            let name = name.trim_matches('`');
            let at = fields.iter().position(|f| f.name().to_lowercase() == name)?;
            fields[at] = Arc::new(lengths(text, &fields[at])?);
            if let Some(rest) = text.strip_prefix(',') {
                *text = rest;
                continue;
            }
            *text = text.strip_prefix('>')?;
            return Some(field.clone().with_data_type(DataType::Struct(fields.into())));
        }
    }
    let mut open = 0;
    let end = text.find(|c| {
        open += i32::from(c == '(') - i32::from(c == ')');
        open == 0 && matches!(c, ',' | '>')
    });
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    let mut metadata = field.metadata().clone();
    metadata.insert(LENGTHS.into(), word.into());
    Some(field.clone().with_metadata(metadata))
}

/// The largest number of characters of VARCHAR(n) or CHAR(n).
fn most_characters(field: &Field) -> Option<usize> {
    let kept = field.metadata().get(LENGTHS)?.trim_matches('"').to_lowercase();
    let inner = kept.strip_prefix("varchar(").or_else(|| kept.strip_prefix("char("))?;
    inner.strip_suffix(')')?.trim().parse().ok()
}

fn is_watched(field: &Field) -> bool {
    let inner = match field.data_type() {
        DataType::Struct(fields) => fields.iter().any(|f| is_watched(f)),
        DataType::List(f) | DataType::LargeList(f) => is_watched(f),
        DataType::Map(entries, _) => match entries.data_type() {
            // A key is never NULL, but it can be a time.
            DataType::Struct(f) if f.len() == 2 => {
                is_watched(&f[0].as_ref().clone().with_nullable(true)) || is_watched(&f[1])
            }
            _ => false,
        },
        DataType::Date32 | DataType::Timestamp(..) => true,
        _ => false,
    };
    inner || !field.is_nullable() || most_characters(field).is_some()
}

/// The places of `array` that do not fit `field`, in any order, each with the reason.
fn look(array: &ArrayRef, field: &Field, path: &str, bad: &mut Vec<(usize, String)>) {
    if !field.is_nullable() && array.logical_null_count() > 0 {
        let nulls = array.logical_nulls();
        let places = (0..array.len()).filter(|i| nulls.as_ref().is_some_and(|n| n.is_null(*i)));
        bad.extend(places.map(|i| (i, format!("column '{path}' is NULL, but NOT NULL in the table"))));
    }
    let inside = |name: &str| format!("{path}.{name}");
    match (array.data_type(), field.data_type()) {
        (DataType::Date32, _) => {
            let a = array.as_primitive::<Date32Type>();
            if a.values().iter().any(|v| *v < DAYS.0 || *v > DAYS.1) {
                let beyond = |i: &usize| a.is_valid(*i) && !(DAYS.0..=DAYS.1).contains(&a.value(*i));
                bad.extend((0..a.len()).filter(beyond).map(|i| (i, out_of_calendar(path))));
            }
        }
        (DataType::Timestamp(TimeUnit::Microsecond, _), _) => {
            let a = array.as_primitive::<TimestampMicrosecondType>();
            if a.values().iter().any(|v| *v < MICROS.0 || *v > MICROS.1) {
                let beyond = |i: &usize| a.is_valid(*i) && !(MICROS.0..=MICROS.1).contains(&a.value(*i));
                bad.extend((0..a.len()).filter(beyond).map(|i| (i, out_of_calendar(path))));
            }
        }
        (DataType::Utf8, _) => {
            if let Some(most) = most_characters(field) {
                let a = array.as_string::<i32>();
                // A text never has more characters than bytes.
                let long = |i: &usize| a.is_valid(*i) && a.value(*i).len() > most && a.value(*i).chars().count() > most;
                let text = format!("column '{path}' takes at most {most} characters in the table");
                bad.extend((0..a.len()).filter(long).map(|i| (i, text.clone())));
            }
        }
        (DataType::Struct(have), DataType::Struct(want)) => {
            let structs = array.as_struct();
            for f in want.iter().filter(|f| is_watched(f)) {
                let Some(at) = find(have, f.name()).and_then(|h| have.iter().position(|x| x.name() == h.name())) else {
                    continue;
                };
                let mut inner = vec![];
                look(structs.column(at), f, &inside(f.name()), &mut inner);
                bad.extend(inner.into_iter().filter(|(i, _)| structs.is_valid(*i)));
            }
        }
        (DataType::List(_), DataType::List(f) | DataType::LargeList(f)) => {
            let list = array.as_list::<i32>();
            rows_of(list.offsets(), list, |bad| look(list.values(), f, &inside("element"), bad), bad);
        }
        (DataType::Map(..), DataType::Map(entries, _)) => {
            let map = array.as_map();
            let DataType::Struct(f) = entries.data_type() else { return };
            let key = f[0].as_ref().clone().with_nullable(true);
            rows_of(map.offsets(), map, |bad| look(map.keys(), &key, &inside("key"), bad), bad);
            rows_of(map.offsets(), map, |bad| look(map.values(), &f[1], &inside("value"), bad), bad);
        }
        _ => {}
    }
}

fn out_of_calendar(path: &str) -> String {
    format!("column '{path}' is outside the years 0001 to 9999, which readers of Delta do not know")
}

/// The faults of elements, reported for the rows that contain the elements.
fn rows_of(
    offsets: &arrow::buffer::OffsetBuffer<i32>,
    rows: &dyn Array,
    look: impl FnOnce(&mut Vec<(usize, String)>),
    bad: &mut Vec<(usize, String)>,
) {
    let mut inner = vec![];
    look(&mut inner);
    inner.sort_by_key(|(i, _)| *i);
    let mut told = None;
    for (place, error) in inner {
        // The last row that begins at or before this element. Empty rows before it begin at the same place.
        let row = offsets.partition_point(|o| (*o as usize) <= place).wrapping_sub(1);
        let holds = row < rows.len() && (offsets[row] as usize) <= place && place < (offsets[row + 1] as usize);
        if holds && rows.is_valid(row) && told != Some(row) {
            told = Some(row);
            bad.push((row, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::parse_ddl;

    fn admission(stream: &str, table: &str, by: &[&str], checks: &[(&str, &str)]) -> Admission {
        let by: Vec<String> = by.iter().map(|s| s.to_string()).collect();
        let checks: Vec<Check> =
            checks.iter().map(|(n, t)| Check { name: n.to_string(), text: t.to_string() }).collect();
        let (stream, table) = (parse_ddl(stream).unwrap(), parse_ddl(table).unwrap());
        Admission::new("t", &stream, &Arc::new(table), &by, &checks, String::new()).unwrap()
    }

    /// The rows of JSON documents in nullable columns.
    fn rows(ddl: &str, json: &str) -> RecordBatch {
        let schema = Arc::new(parse_ddl(ddl).unwrap());
        arrow::json::ReaderBuilder::new(schema).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
    }

    fn refused(a: &Admission, rows: &RecordBatch) -> Vec<(u32, String)> {
        a.judge(rows).unwrap().into_iter().map(|r| (r.row, r.error.to_string())).collect()
    }

    #[test]
    fn a_null_is_found_wherever_the_table_has_none() {
        let ddl = "a INT, s STRUCT<x: INT, y: INT>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, STRUCT<x: INT>>";
        let table = "a INT NOT NULL, s STRUCT<x: INT NOT NULL, y: INT>, l ARRAY<STRUCT<x: INT NOT NULL>>, \
                     m MAP<STRING, STRUCT<x: INT NOT NULL>>";
        let a = admission(ddl, table, &[], &[]);
        let json = r#"
            {"a": 1, "s": {"x": 1}, "l": [{"x": 1}], "m": {"k": {"x": 1}}}
            {"s": {"x": 1}}
            {"a": 1, "s": {"y": 1}}
            {"a": 1}
            {"a": 1, "l": []}
            {"a": 1, "l": [{"x": 1}, {}, {}]}
            {"a": 1, "m": {"k": {"x": 1}, "j": {}}}
            {"a": 1, "l": [null], "m": {"k": null}}"#;
        let found: Vec<u32> = refused(&a, &rows(ddl, json)).iter().map(|f| f.0).collect();
        assert_eq!(found, vec![1, 2, 5, 6]);
        // The same rows at a later offset of an array.
        let found: Vec<u32> = refused(&a, &rows(ddl, json).slice(2, 5)).iter().map(|f| f.0).collect();
        assert_eq!(found, vec![0, 3, 4]);
    }

    #[test]
    fn a_text_that_is_too_long_is_found_also_within_structs_lists_and_maps() {
        let ddl =
            "a STRING, l ARRAY<STRING>, s STRUCT<x: STRUCT<Y: STRING>, n: DECIMAL(10,2)>, m MAP<STRING, ARRAY<STRING>>";
        let kept = [
            "varchar(3)",
            "array<varchar(3)>",
            "struct<n:decimal(10,2),x:struct<Y:char(2)>>",
            "map<varchar(1),array<varchar(2)>>",
        ];
        let table = parse_ddl(ddl).unwrap();
        let beside = |(f, kept): (&FieldRef, &str)| {
            f.as_ref().clone().with_metadata([(LENGTHS.to_string(), kept.to_string())].into())
        };
        let table = Arc::new(Schema::new(table.fields().iter().zip(kept).map(beside).collect::<Vec<_>>()));
        let a = Admission::new("t", &parse_ddl(ddl).unwrap(), &table, &[], &[], String::new()).unwrap();
        let json = r#"
            {"a": "abc", "l": ["abc", null], "s": {"x": {"Y": "üü"}, "n": 1}, "m": {"k": ["ab"]}}
            {"a": "abcd"}
            {"l": ["a", "abcd"]}
            {"s": {"x": {"Y": "abc"}}}
            {"m": {"kk": []}}
            {"m": {"k": ["a", "abc"]}}"#;
        let found: Vec<u32> = refused(&a, &rows(ddl, json)).iter().map(|f| f.0).collect();
        assert_eq!(found, vec![1, 2, 3, 4, 5]);
    }

    #[test]
    fn years_that_readers_do_not_know_are_found_also_within_lists_and_maps() {
        let t = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("t", t.clone(), true), Field::new("d", DataType::Date32, true)]);
        let a = Admission::new("t", &schema, &Arc::new(schema.clone()), &[], &[], String::new()).unwrap();
        let times = vec![Some(0), Some(MICROS.1), Some(MICROS.1 + 1), Some(MICROS.0), Some(MICROS.0 - 1), None];
        let days = vec![Some(DAYS.1 + 1), Some(DAYS.1), Some(0), Some(DAYS.0 - 1), None, Some(DAYS.0)];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Date32Array::from(days)),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let found: Vec<u32> = refused(&a, &batch).iter().map(|f| f.0).collect();
        assert_eq!(found, vec![0, 2, 3, 4]);
    }

    #[test]
    fn a_constraint_holds_only_where_it_is_true() {
        let a = admission("a INT", "a INT, b INT", &[], &[("pos", "a > 0"), ("no_b", "b IS NULL")]);
        let found = a.judge(&rows("a INT", "{\"a\": 1}\n{\"a\": 0}\n{}")).unwrap();
        assert_eq!(found.iter().map(|f| f.row).collect::<Vec<_>>(), vec![1, 2]);
        assert_eq!(&*found[0].error, "breaks the table's constraint 'pos': a > 0");
        assert_eq!(found[0].rules, vec!["pos".into()]);
        let a = admission("a INT", "a INT", &[], &[("x", "a > 1"), ("y", "a > 2")]);
        assert_eq!(a.judge(&rows("a INT", "{\"a\": 0}")).unwrap()[0].rules, vec!["x".into(), "y".into()]);
    }

    #[test]
    fn a_constraint_that_cannot_be_evaluated_is_named() {
        let schema = parse_ddl("a INT").unwrap();
        let check = Check { name: "odd".into(), text: "my_udf(a) = 1".into() };
        let failed = Admission::new("t", &schema, &Arc::new(schema.clone()), &[], &[check], String::new());
        let text = failed.err().unwrap().message;
        assert!(text.contains("'odd' (my_udf(a) = 1)") && text.contains("Drop the constraint"), "{text}");
    }

    #[test]
    fn texts_that_readers_take_for_null_are_found_in_partition_columns_only() {
        let json = "{\"p\": \"\", \"q\": \"\"}\n{\"p\": \"__HIVE_DEFAULT_PARTITION__\"}\n{\"p\": \" \"}\n{}";
        let a = admission("p STRING, q STRING", "p STRING, q STRING", &["p"], &[]);
        let found: Vec<u32> = refused(&a, &rows("p STRING, q STRING", json)).iter().map(|f| f.0).collect();
        assert_eq!(found, vec![0, 1]);
    }

    #[test]
    fn a_text_that_is_longer_than_varchar_allows_is_found() {
        let kept = [("__CHAR_VARCHAR_TYPE_STRING".to_string(), "varchar(3)".to_string())];
        let field = Field::new("v", DataType::Utf8, true).with_metadata(kept.into());
        let a = Admission::new(
            "t",
            &parse_ddl("v STRING").unwrap(),
            &Arc::new(Schema::new(vec![field])),
            &[],
            &[],
            String::new(),
        );
        let found: Vec<u32> = refused(&a.unwrap(), &rows("v STRING", "{\"v\": \"äöü\"}\n{\"v\": \"abcd\"}\n{}"))
            .iter()
            .map(|f| f.0)
            .collect();
        assert_eq!(found, vec![1]);
    }
}
