//! Columns as Spark reads them: every name in backticks, because Spark takes letters outside ASCII, and reserved words, in backticks only.

use crate::expr::type_to_ddl;
use arrow::datatypes::{DataType, Field, Schema};

pub(super) fn ddl(schema: &Schema) -> String {
    schema.fields().iter().map(|f| column(f, " ")).collect::<Vec<_>>().join(", ")
}

fn column(field: &Field, between: &str) -> String {
    let mut out = format!("`{}`{between}{}", field.name().replace('`', "``"), type_of(field.data_type()));
    if !field.is_nullable() {
        out.push_str(" NOT NULL");
    }
    if let Some(comment) = field.metadata().get("comment") {
        out.push_str(&format!(" COMMENT '{}'", comment.replace('\\', "\\\\").replace('\'', "\\'")));
    }
    out
}

fn type_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Struct(fields) => {
            format!("STRUCT<{}>", fields.iter().map(|f| column(f, ": ")).collect::<Vec<_>>().join(", "))
        }
        DataType::List(f) | DataType::LargeList(f) => format!("ARRAY<{}>", type_of(f.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("MAP<{}, {}>", type_of(pair[0].data_type()), type_of(pair[1].data_type()))
            }
            other => type_to_ddl(other),
        },
        other => type_to_ddl(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::parse_ddl;

    #[test]
    fn every_name_is_in_backticks_also_within_columns() {
        let text =
            "größe INT NOT NULL COMMENT 'its', `order` ARRAY<STRUCT<`a-b`: MAP<STRING, STRUCT<ü: DECIMAL(5,2)>>>>";
        let wanted =
            "`größe` INT NOT NULL COMMENT 'its', `order` ARRAY<STRUCT<`a-b`: MAP<STRING, STRUCT<`ü`: DECIMAL(5,2)>>>>";
        assert_eq!(ddl(&parse_ddl(text).unwrap()), wanted);
        assert_eq!(parse_ddl(wanted).unwrap(), parse_ddl(text).unwrap());
    }
}
