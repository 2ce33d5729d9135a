//! Spark's DDL strings, read and written.
use crate::Result;
use arrow::datatypes::{DataType, Schema};
pub fn parse_ddl(text: &str) -> Result<Schema> {
    let _ = text;
    todo!()
}
pub fn parse_type(text: &str) -> Result<DataType> {
    let _ = text;
    todo!()
}
pub fn to_ddl(schema: &Schema) -> String {
    let _ = schema;
    todo!()
}
pub fn type_to_ddl(data_type: &DataType) -> String {
    let _ = data_type;
    todo!()
}
