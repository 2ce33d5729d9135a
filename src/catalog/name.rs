//! Names of tables in Unity Catalog, and how they are distinguished from paths.

use crate::{Error, Result};
use std::fmt;

/// `catalog.schema`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaName {
    pub catalog: String,
    pub schema: String,
}

/// `catalog.schema.table`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    pub schema: SchemaName,
    pub table: String,
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", plain(&self.catalog), plain(&self.schema))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, plain(&self.table))
    }
}

/// The name as SQL takes it: in backticks if it needs them.
fn plain(part: &str) -> String {
    let is_plain =
        part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.starts_with(|c: char| c.is_ascii_digit());
    if is_plain { part.to_string() } else { quoted(part) }
}

pub(super) fn quoted(part: &str) -> String {
    format!("`{}`", part.replace('`', "``"))
}

impl SchemaName {
    /// For `schema=`, which is always a name.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!(
                "schema='{text}' is not the name of a schema. Write \"catalog.schema\", for example \"main.heart\"."
            ))
        };
        let parts = parts(text).ok_or_else(wrong)?;
        let Ok([catalog, schema]) = <[String; 2]>::try_from(parts) else { return Err(wrong()) };
        Self::new(catalog, schema, text)
    }

    fn new(catalog: String, schema: String, text: &str) -> Result<Self> {
        for part in [&catalog, &schema] {
            check(part, text)?;
        }
        Ok(Self { catalog, schema })
    }

    /// Whether the schema is in the metastore that Spark had before Unity Catalog. Only Spark knows its tables.
    pub(crate) fn is_outside(&self) -> bool {
        ["hive_metastore", "spark_catalog"].iter().any(|c| self.catalog.eq_ignore_ascii_case(c))
    }

    /// Refuses what Unity Catalog does not have.
    pub(crate) fn check_inside(&self, text: impl fmt::Display) -> Result<()> {
        if !self.is_outside() {
            return Ok(());
        }
        Err(Error::config(format!(
            "'{text}' names a table outside Unity Catalog. Use the path of the table instead (DESCRIBE DETAIL shows its location), or let Spark \
             write it: write_delta(\"{text}\", spark=spark, …)."
        )))
    }

    /// The name for SQL.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.catalog), quoted(&self.schema))
    }

    pub(crate) fn table(&self, table: &str) -> Result<TableName> {
        check(table, table)?;
        Ok(TableName { schema: self.clone(), table: table.to_string() })
    }
}

impl TableName {
    /// The table that a target names. `None`: the target is a path or a URL. Three parts are always a table, and a text with a slash, a backslash or
    /// a colon never is one.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        if text.contains(['/', '\\', ':']) || text.trim().is_empty() {
            return Ok(None);
        }
        let ticked = text.contains('`');
        let Some(parts) = parts(text) else {
            return match ticked {
                true => Err(Error::config(format!(
                    "'{text}' is not the name of a table: its backticks do not fit. Write `catalog`.`schema`.`table`. For a folder of that name write \"./{text}\"."
                ))),
                false => Ok(None),
            };
        };
        match <[String; 3]>::try_from(parts) {
            Ok(parts) => Self::of(parts, text).map(Some),
            Err(_) if ticked => Err(Error::config(format!(
                "'{text}' does not have the three parts of a table's name. Write catalog.schema.table. For a folder of that name write \"./{text}\"."
            ))),
            Err(parts) => {
                // In a notebook of Databricks, a relative path is a folder on the driver's disk, which hardly any user wants.
                if parts.len() == 2 && std::env::var_os("DATABRICKS_RUNTIME_VERSION").is_some() {
                    return Err(Error::config(format!(
                        "'{text}' can be a table of a schema or a folder. For the table write \"catalog.{text}\", and for the folder \"./{text}\"."
                    )));
                }
                Ok(None)
            }
        }
    }

    fn of([catalog, schema, table]: [String; 3], text: &str) -> Result<Self> {
        let schema = SchemaName::new(catalog, schema, text)?;
        check(&table, text)?;
        Ok(Self { schema, table })
    }

    /// With dots, and without backticks: a name has neither dots nor spaces in its parts.
    pub(crate) fn dotted(&self) -> String {
        format!("{}.{}.{}", self.schema.catalog, self.schema.schema, self.table)
    }

    /// `` `main`.`heart`.`bpm` ``, for statements that users copy.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}.{}", quoted(&self.schema.catalog), quoted(&self.schema.schema), quoted(&self.table))
    }

    /// The table `<table><suffix>` of the same schema.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        Self { schema: self.schema.clone(), table: format!("{}{suffix}", self.table) }
    }
}

/// Refuses names that Unity Catalog does not accept.
fn check(part: &str, text: &str) -> Result<()> {
    let bad = part.chars().find(|c| matches!(c, '.' | '/' | ' ') || c.is_control());
    match bad {
        Some(c) => Err(Error::config(format!(
            "'{text}': a name in Unity Catalog cannot contain {}. Rename it.",
            match c {
                ' ' => "a space".to_string(),
                c if c.is_control() => "a control character".to_string(),
                c => format!("'{c}'"),
            }
        ))),
        None if part.is_empty() => Err(Error::config(format!("'{text}': a part of the name is empty"))),
        None if part.len() > 255 => Err(Error::config(format!("'{text}': a name has at most 255 characters"))),
        None => Ok(()),
    }
}

/// The parts between dots; a part in backticks can contain dots, and two backticks for one. `None`: this is no name.
fn parts(text: &str) -> Option<Vec<String>> {
    let (mut out, mut rest) = (vec![], text);
    loop {
        let part = match rest.strip_prefix('`') {
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let part = rest[..end].to_string();
                rest = &rest[end..];
                if part.contains('`') {
                    return None;
                }
                part
            }
            Some(after) => {
                let (mut part, mut at) = (String::new(), after);
                loop {
                    let end = at.find('`')?;
                    part.push_str(&at[..end]);
                    at = &at[end + 1..];
                    match at.strip_prefix('`') {
                        Some(more) => {
                            part.push('`');
                            at = more;
                        }
                        None => break,
                    }
                }
                rest = at;
                part
            }
        };
        if part.is_empty() {
            return None;
        }
        out.push(part);
        if rest.is_empty() {
            return Some(out);
        }
        rest = rest.strip_prefix('.')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        TableName::parse(text).unwrap().map(|n| n.dotted())
    }

    #[test]
    fn three_parts_are_a_table_and_whatever_looks_like_a_path_is_none() {
        for (text, name) in [
            ("main.heart.bpm", "main.heart.bpm"),
            ("Main.Heart.BPM", "Main.Heart.BPM"),
            ("`main`.`heart`.`bpm`", "main.heart.bpm"),
            ("main.`heart-rate`.`b``pm`", "main.heart-rate.b`pm"),
            ("haupt.herz.schläge", "haupt.herz.schläge"),
            ("my-catalog.2024.x", "my-catalog.2024.x"),
        ] {
            assert_eq!(named(text).as_deref(), Some(name), "{text}");
        }
        for path in [
            "lake",
            "lake.delta",
            "./main.heart.bpm",
            "main.heart.bpm/",
            "/main.heart.bpm",
            "a/b.c.d",
            "s3://b/main.heart.bpm",
            "C:\\main.heart.bpm",
            "a..b",
            ".a.b",
            "a.b.",
            "..",
            "a.b.c.d",
            "~/a.b.c",
            "",
            " ",
            "`a`/b.c.d",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
    }

    #[test]
    fn a_name_that_unity_catalog_does_not_take_is_refused_with_the_reason() {
        for (text, said) in [
            ("`a.b`.c.d", "cannot contain '.'"),
            ("a.b c.d", "cannot contain a space"),
            ("a.b.c\u{7}", "a control character"),
            ("`a`.b", "three parts"),
            ("`a.b.c", "backticks do not fit"),
            ("a`b.c.d", "backticks do not fit"),
        ] {
            let e = TableName::parse(text).unwrap_err();
            assert!(e.message.contains(said), "{text}: {e}");
        }
        assert!(SchemaName::parse("main").is_err() && SchemaName::parse("a.b.c").is_err());
        let outside = SchemaName::parse("hive_metastore.default").unwrap();
        assert!(
            outside.check_inside("hive_metastore.default.t").unwrap_err().message.contains("outside Unity Catalog")
        );
    }

    #[test]
    fn a_name_is_shown_as_sql_takes_it() {
        let name = TableName::parse("main.`heart-rate`.bpm").unwrap().unwrap();
        assert_eq!(name.to_string(), "main.`heart-rate`.bpm");
        assert_eq!(name.sql(), "`main`.`heart-rate`.`bpm`");
        assert_eq!(name.beside("_quarantine").dotted(), "main.heart-rate.bpm_quarantine");
        assert_eq!(SchemaName::parse("`main`.heart").unwrap().table("t").unwrap().dotted(), "main.heart.t");
    }
}
