//! Converts a stream's columns to the types of a table: names case-insensitively, struct fields by name. Also says
//! which changes the table needs for this.

use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::*;
use std::sync::Arc;

/// How a column of the stream fits a column of the table.
#[derive(Debug, PartialEq)]
pub(super) enum Fit {
    /// It fits. Fields that the stream does not have become NULL.
    Same,
    /// The table needs new fields within the column.
    Wider,
    /// The types are different.
    Not,
}

impl Fit {
    fn and(self, other: Fit) -> Fit {
        match (self, other) {
            (Fit::Not, _) | (_, Fit::Not) => Fit::Not,
            (Fit::Wider, _) | (_, Fit::Wider) => Fit::Wider,
            _ => Fit::Same,
        }
    }
}

/// Finds a field as SQL does: case-insensitively, and an exact match wins.
pub(super) fn find<'a>(fields: impl IntoIterator<Item = &'a FieldRef> + Clone, name: &str) -> Option<&'a FieldRef> {
    let exact = fields.clone().into_iter().find(|f| f.name() == name);
    exact.or_else(|| {
        fields
            .into_iter()
            .find(|f| f.name().eq_ignore_ascii_case(name) || f.name().to_lowercase() == name.to_lowercase())
    })
}

/// Types that Delta stores in the same way are the same.
pub(super) fn fits(stream: &DataType, table: &DataType) -> Fit {
    use DataType::*;
    let alike = |same: bool| if same { Fit::Same } else { Fit::Not };
    match (stream, table) {
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => Fit::Same,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => Fit::Same,
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => Fit::Same,
        (List(x) | LargeList(x), List(y) | LargeList(y)) => fits(x.data_type(), y.data_type()),
        (Map(x, _), Map(y, _)) => match (x.data_type(), y.data_type()) {
            // The names of the two columns of a map depend on the writer.
            (Struct(x), Struct(y)) => {
                x.iter().zip(y).fold(Fit::Same, |fit, (x, y)| fit.and(fits(x.data_type(), y.data_type())))
            }
            _ => Fit::Not,
        },
        (Struct(x), Struct(y)) => {
            let mut fit = Fit::Same;
            for field in x {
                fit = fit.and(find(y, field.name()).map_or(Fit::Wider, |t| fits(field.data_type(), t.data_type())));
            }
            // A field that the stream does not have must be nullable.
            let missing = y.iter().any(|t| !t.is_nullable() && find(x, t.name()).is_none());
            if missing { Fit::Not } else { fit }
        }
        _ => alike(stream == table),
    }
}

/// The type in which a column is written: the fields of the table, in their spelling and order, and nullable where the
/// rows were not checked.
pub(super) fn written_type(stream: &DataType, table: &DataType) -> DataType {
    use DataType::*;
    let nullable = |field: &FieldRef, data_type: DataType| {
        Arc::new(Field::new(field.name(), data_type, true).with_metadata(field.metadata().clone()))
    };
    match (stream, table) {
        (Struct(x), Struct(y)) => Struct(
            y.iter()
                .map(|t| match find(x, t.name()) {
                    Some(s) => nullable(t, written_type(s.data_type(), t.data_type())),
                    None => nullable(t, relaxed(t.data_type())),
                })
                .collect(),
        ),
        (List(x) | LargeList(x), List(y) | LargeList(y)) => {
            List(nullable(y, written_type(x.data_type(), y.data_type())))
        }
        (Map(x, _), Map(y, sorted)) => match (x.data_type(), y.data_type()) {
            (Struct(xs), Struct(ys)) if xs.len() == 2 && ys.len() == 2 => {
                let key = ys[0].as_ref().clone().with_data_type(written_type(xs[0].data_type(), ys[0].data_type()));
                let value = nullable(&ys[1], written_type(xs[1].data_type(), ys[1].data_type()));
                let entries = Struct(vec![Arc::new(key), value].into());
                Map(Arc::new(y.as_ref().clone().with_data_type(entries)), *sorted)
            }
            _ => table.clone(),
        },
        _ => relaxed(stream),
    }
}

/// The same type with everything nullable, except the keys of a map.
pub(crate) fn relaxed(data_type: &DataType) -> DataType {
    let inner = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(relaxed(f.data_type())).with_nullable(true));
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::List(f) => DataType::List(inner(f)),
        DataType::LargeList(f) => DataType::LargeList(inner(f)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(f) if f.len() == 2 => {
                let key = Arc::new(f[0].as_ref().clone().with_data_type(relaxed(f[0].data_type())));
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(vec![key, inner(&f[1])].into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

/// The same columns with everything nullable. Rows are checked separately.
pub(in crate::sink) fn relaxed_schema(schema: &Schema) -> SchemaRef {
    let field = |f: &FieldRef| Field::new(f.name(), relaxed(f.data_type()), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// An array in a different type that it fits: fields by name, NULL for missing fields.
pub(crate) fn fit(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    match (array.data_type(), to) {
        (DataType::Struct(from), DataType::Struct(fields)) => {
            let structs = array.as_struct();
            let column = |field: &FieldRef| match find(from, field.name()) {
                Some(f) => {
                    let at = from.iter().position(|x| x.name() == f.name()).unwrap_or_default();
                    fit(structs.column(at), field.data_type())
                }
                None => Ok(new_null_array(field.data_type(), array.len())),
            };
            let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                structs.nulls().cloned(),
                array.len(),
            )?))
        }
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = fit(list.values(), field.data_type())?;
            Ok(Arc::new(ListArray::try_new(field.clone(), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (DataType::LargeList(f), DataType::List(_)) => {
            let narrow = cast_with_options(array, &DataType::List(f.clone()), &exact())?;
            fit(&narrow, to)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(Error::internal("a map without entries"));
            };
            // By position, because the names depend on the writer.
            let from = map.entries();
            let columns =
                fields.iter().zip(from.columns()).map(|(f, c)| fit(c, f.data_type())).collect::<Result<Vec<_>>>()?;
            let rebuilt = StructArray::try_new(fields.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(
                entries.clone(),
                map.offsets().clone(),
                rebuilt,
                map.nulls().cloned(),
                *sorted,
            )?))
        }
        _ => Ok(cast_with_options(array, to, &exact())?),
    }
}

fn exact() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::parse_type;

    #[test]
    fn struct_fields_go_by_name_and_new_ones_widen() {
        let t = |ddl: &str| parse_type(ddl).unwrap();
        assert_eq!(fits(&t("STRUCT<x: INT>"), &t("STRUCT<y: INT, x: INT>")), Fit::Same);
        assert_eq!(fits(&t("STRUCT<X: INT>"), &t("STRUCT<y: INT, x: INT>")), Fit::Same);
        assert_eq!(fits(&t("STRUCT<x: INT, z: INT>"), &t("STRUCT<y: INT, x: INT>")), Fit::Wider);
        assert_eq!(fits(&t("STRUCT<x: BIGINT, z: INT>"), &t("STRUCT<x: INT>")), Fit::Not);
        assert_eq!(fits(&t("ARRAY<STRUCT<x: INT>>"), &t("ARRAY<STRUCT<x: INT, y: STRING>>")), Fit::Same);
        assert_eq!(fits(&t("MAP<STRING, STRUCT<a: INT>>"), &t("MAP<STRING, STRUCT<b: INT>>")), Fit::Wider);
        assert_eq!(fits(&t("STRUCT<x: INT>"), &t("STRUCT<x: INT, y: INT NOT NULL>")), Fit::Not);
        let x: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let one = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int32, false)), x)]);
        let to = written_type(one.data_type(), &t("STRUCT<y: STRING, x: INT>"));
        let out = fit(&(Arc::new(one) as ArrayRef), &to).unwrap();
        assert_eq!(out.as_struct().column(0).null_count(), 2);
        assert_eq!(out.as_struct().column(1).as_primitive::<Int32Type>().values(), &[1, 2]);
    }
}
