//! The columns of a Delta table as Unity Catalog keeps them: Spark's types.

use serde_json::{Value, json};

/// The columns of the API, from the schema in Delta's metadata (`schemaString`).
pub(super) fn columns(schema: &Value, partition_by: &[String]) -> Vec<Value> {
    let fields = schema.get("fields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    fields.iter().enumerate().map(|(i, field)| column(i, field, partition_by)).collect()
}

fn column(i: usize, field: &Value, partition_by: &[String]) -> Value {
    let name = field["name"].as_str().unwrap_or_default();
    let type_text = text(&field["type"]);
    let mut out = json!({
        "name": name,
        "type_text": type_text,
        "type_json": field.to_string(),
        "type_name": kind(&type_text),
        "type_precision": 0,
        "type_scale": 0,
        "position": i,
        "nullable": field["nullable"].as_bool().unwrap_or(true),
    });
    if let Some((precision, scale)) = decimal(&type_text) {
        out["type_precision"] = precision.into();
        out["type_scale"] = scale.into();
    }
    if let Some(comment) = field["metadata"]["comment"].as_str() {
        out["comment"] = comment.into();
    }
    if let Some(at) = partition_by.iter().position(|p| p == name) {
        out["partition_index"] = at.into();
    }
    out
}

/// The type as Spark's DDL writes it.
fn text(of: &Value) -> String {
    if let Some(primitive) = of.as_str() {
        return match primitive {
            "long" => "bigint",
            "integer" => "int",
            "short" => "smallint",
            "byte" => "tinyint",
            other => other,
        }
        .to_string();
    }
    let part = |name: &str| text(&of[name]);
    match of["type"].as_str() {
        Some("array") => format!("array<{}>", part("elementType")),
        Some("map") => format!("map<{},{}>", part("keyType"), part("valueType")),
        Some("struct") => {
            let fields = of["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
            let one = |f: &Value| format!("{}:{}", f["name"].as_str().unwrap_or_default(), text(&f["type"]));
            format!("struct<{}>", fields.iter().map(one).collect::<Vec<_>>().join(","))
        }
        _ => "string".into(),
    }
}

/// The name of the type in the API.
fn kind(text: &str) -> &'static str {
    match text.split(['<', '(']).next().unwrap_or_default() {
        "bigint" => "LONG",
        "int" => "INT",
        "smallint" => "SHORT",
        "tinyint" => "BYTE",
        "float" => "FLOAT",
        "double" => "DOUBLE",
        "boolean" => "BOOLEAN",
        "binary" => "BINARY",
        "date" => "DATE",
        "timestamp" => "TIMESTAMP",
        "timestamp_ntz" => "TIMESTAMP_NTZ",
        "decimal" => "DECIMAL",
        "array" => "ARRAY",
        "map" => "MAP",
        "struct" => "STRUCT",
        _ => "STRING",
    }
}

fn decimal(text: &str) -> Option<(u64, u64)> {
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// The columns that only the catalog or only the table has: the catalog keeps the columns of the day on which the table was registered.
pub(super) fn missing(registered: &Value, schema: &Value) -> Vec<String> {
    let names = |of: &Value| -> Vec<String> {
        let all = of.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(|c| Some(c["name"].as_str()?.to_lowercase())).collect()
    };
    let known = names(registered);
    // Some servers return no columns for tables that other clients registered.
    if known.is_empty() {
        return vec![];
    }
    names(&schema["fields"]).into_iter().filter(|n| !known.contains(n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_name_in_spark_and_in_the_api() {
        let cases = [
            (json!("long"), "bigint", "LONG"),
            (json!("integer"), "int", "INT"),
            (json!("short"), "smallint", "SHORT"),
            (json!("byte"), "tinyint", "BYTE"),
            (json!("timestamp_ntz"), "timestamp_ntz", "TIMESTAMP_NTZ"),
            (json!("decimal(10,2)"), "decimal(10,2)", "DECIMAL"),
            (json!({"type": "array", "elementType": "long", "containsNull": true}), "array<bigint>", "ARRAY"),
            (
                json!({"type": "map", "keyType": "string", "valueType": {"type": "array", "elementType": "byte"}}),
                "map<string,array<tinyint>>",
                "MAP",
            ),
            (
                json!({"type": "struct", "fields": [{"name": "a", "type": "integer"}, {"name": "b", "type": "date"}]}),
                "struct<a:int,b:date>",
                "STRUCT",
            ),
        ];
        for (of, wanted, name) in cases {
            let found = text(&of);
            assert_eq!((found.as_str(), kind(&found)), (wanted, name));
        }
    }

    #[test]
    fn a_column_has_its_place_its_comment_and_its_partition() {
        let schema = json!({"type": "struct", "fields": [
            {"name": "n", "type": "decimal(7,3)", "nullable": false, "metadata": {"comment": "a count"}},
            {"name": "day", "type": "date", "nullable": true, "metadata": {}},
        ]});
        let found = columns(&schema, &["day".into()]);
        assert_eq!(found[0]["type_precision"], 7);
        assert_eq!((&found[0]["nullable"], &found[0]["comment"]), (&json!(false), &json!("a count")));
        assert_eq!(found[0].get("partition_index"), None);
        assert_eq!((&found[1]["position"], &found[1]["partition_index"]), (&json!(1), &json!(0)));
        let field: Value = serde_json::from_str(found[1]["type_json"].as_str().unwrap()).unwrap();
        assert_eq!(field, schema["fields"][1]);
        assert_eq!(missing(&json!([{"name": "N"}]), &schema), ["day"]);
        assert!(missing(&json!([]), &schema).is_empty());
    }
}
