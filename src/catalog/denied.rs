//! A refusal of Unity Catalog, as the privilege that is missing and the statement that gives it.

use super::name::{SchemaName, TableName, quoted};
use crate::Error;

/// The request that was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    Schema(&'a SchemaName),
    Table(&'a TableName),
    Read(&'a TableName),
    Write(&'a TableName),
    Create(&'a TableName, &'a str),
    /// Reading and writing files below a URL; `new`: for a table that is created there.
    Path {
        url: &'a str,
        new: bool,
    },
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Schema(name) => name.fmt(f),
            Self::Table(name) | Self::Read(name) | Self::Write(name) | Self::Create(name, _) => name.fmt(f),
            Self::Path { url, .. } => f.write_str(url),
        }
    }
}

impl Asked<'_> {
    fn doing(self) -> String {
        match self {
            Self::Schema(name) => format!("{name}: Unity Catalog does not show the schema to this login"),
            Self::Table(name) => format!("{name}: Unity Catalog does not show the table to this login"),
            Self::Read(name) => format!("{name}: Unity Catalog gives no credentials to read the table's files"),
            Self::Write(name) => format!("{name}: Unity Catalog gives no credentials to write the table's files"),
            Self::Create(name, url) => format!("{name}: Unity Catalog does not create the table at {url}"),
            Self::Path { url, new: true } => {
                format!("{url}: Unity Catalog gives no credentials to create a table here")
            }
            Self::Path { url, new: false } => format!("{url}: Unity Catalog gives no credentials for these files"),
        }
    }

    /// The privileges that the request needs, each with its object as GRANT names it.
    fn needs(self, location: Option<&str>) -> Vec<(&'static str, String)> {
        let place = |url: &str| match location {
            Some(name) => format!("EXTERNAL LOCATION {}", quoted(name)),
            None => format!("EXTERNAL LOCATION `<the one that contains {url}>`"),
        };
        let schema = |s: &SchemaName| format!("SCHEMA {}.{}", quoted(&s.catalog), quoted(&s.schema));
        let of_schema = |s: &SchemaName| {
            vec![("USE CATALOG", format!("CATALOG {}", quoted(&s.catalog))), ("USE SCHEMA", schema(s))]
        };
        let table = |t: &TableName| format!("TABLE {}", t.sql());
        match self {
            Self::Schema(s) => of_schema(s),
            Self::Table(t) => [of_schema(&t.schema), vec![("SELECT", table(t))]].concat(),
            Self::Read(t) => vec![("EXTERNAL USE SCHEMA", schema(&t.schema)), ("SELECT", table(t))],
            Self::Write(t) => {
                vec![("EXTERNAL USE SCHEMA", schema(&t.schema)), ("SELECT", table(t)), ("MODIFY", table(t))]
            }
            Self::Create(t, url) => {
                [of_schema(&t.schema), vec![("CREATE TABLE", schema(&t.schema)), ("CREATE EXTERNAL TABLE", place(url))]]
                    .concat()
            }
            Self::Path { url, new: true } => {
                vec![("EXTERNAL USE LOCATION", place(url)), ("CREATE EXTERNAL TABLE", place(url))]
            }
            Self::Path { url, new: false } => {
                vec![("EXTERNAL USE LOCATION", place(url)), ("READ FILES", place(url)), ("WRITE FILES", place(url))]
            }
        }
    }

    /// The URL whose external location would be named.
    pub(super) fn url(self) -> Option<String> {
        match self {
            Self::Create(_, url) | Self::Path { url, .. } => Some(url.to_string()),
            _ => None,
        }
    }
}

/// All privileges that a message can name. Longer names come first, because they contain shorter ones.
const PRIVILEGES: [&str; 10] = [
    "EXTERNAL USE LOCATION",
    "EXTERNAL USE SCHEMA",
    "CREATE EXTERNAL TABLE",
    "CREATE TABLE",
    "USE CATALOG",
    "USE SCHEMA",
    "READ FILES",
    "WRITE FILES",
    "MODIFY",
    "SELECT",
];

/// The privileges that the server's message names.
fn named(message: &str) -> Vec<&'static str> {
    let mut text = format!(" {} ", message.to_uppercase().replace('_', " "));
    let mut out = vec![];
    for privilege in PRIVILEGES {
        let is_end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        let found = text.match_indices(privilege).any(|(at, _)| {
            is_end(text[..at].chars().next_back()) && is_end(text[at + privilege.len()..].chars().next())
        });
        if found {
            out.push(privilege);
            text = text.replace(privilege, " ");
        }
    }
    out
}

/// The error for a 403. `who`: the login's name. `location`: the external location of the URL. Both are None if the catalog did not return them.
pub(super) fn denied(asked: Asked<'_>, code: &str, message: &str, who: Option<&str>, location: Option<&str>) -> Error {
    let mut needs = asked.needs(location);
    let named = named(message);
    if needs.iter().any(|(privilege, _)| named.contains(privilege)) {
        needs.retain(|(privilege, _)| named.contains(privilege));
    }
    let who = who.map_or("`<your login>`".to_string(), quoted);
    let grants: Vec<String> =
        needs.iter().map(|(privilege, on)| format!("GRANT {privilege} ON {on} TO {who};")).collect();
    let missing: Vec<&str> = needs.iter().map(|(privilege, _)| *privilege).collect();
    let missing = match &missing[..] {
        [one] => format!("The privilege {one} is missing"),
        several => format!("One of these privileges is missing: {}", several.join(", ")),
    };
    let lower = message.to_lowercase();
    let metastore = match lower.contains("external") && lower.contains("enabled") {
        true => {
            " External data access must also be switched on for the metastore (an administrator does it in Catalog Explorer)."
        }
        false => "",
    };
    let said = match (message.trim_end_matches('.'), code) {
        ("", "") => "403".to_string(),
        ("", code) => format!("403 {code}"),
        (message, code) => format!("{message} (403 {code})"),
    };
    Error::acl(format!(
        "{}: {said}. {missing}. A user who may grant privileges runs: {}{metastore}",
        asked.doing(),
        grants.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> TableName {
        TableName::parse("main.heart.bpm").unwrap().unwrap()
    }

    #[test]
    fn a_refusal_names_the_privilege_and_the_statement_that_gives_it() {
        let (t, url) = (name(), "s3://lake/bpm");
        let cases = [
            (
                Asked::Write(&t),
                "User does not have EXTERNAL USE SCHEMA on Schema 'main.heart'.",
                "The privilege EXTERNAL USE SCHEMA is missing",
                "GRANT EXTERNAL USE SCHEMA ON SCHEMA `main`.`heart` TO `me@x.org`;",
            ),
            (
                Asked::Write(&t),
                "PERMISSION_DENIED: MODIFY on Table",
                "The privilege MODIFY is missing",
                "GRANT MODIFY ON TABLE `main`.`heart`.`bpm`",
            ),
            (
                Asked::Table(&t),
                "no USE_CATALOG on main",
                "The privilege USE CATALOG is",
                "GRANT USE CATALOG ON CATALOG `main`",
            ),
            (
                Asked::Create(&t, url),
                "User does not have CREATE EXTERNAL TABLE on External Location 'lake'",
                "The privilege CREATE EXTERNAL TABLE is missing",
                "GRANT CREATE EXTERNAL TABLE ON EXTERNAL LOCATION `lake` TO",
            ),
            (
                Asked::Path { url, new: false },
                "Access denied",
                "READ FILES, WRITE FILES",
                "GRANT EXTERNAL USE LOCATION ON EXTERNAL LOCATION `lake`",
            ),
            (Asked::Read(&t), "", "EXTERNAL USE SCHEMA, SELECT", "GRANT SELECT ON TABLE `main`.`heart`.`bpm`"),
            // A privilege that has nothing to do with the question says less than the list.
            (Asked::Read(&t), "you may only WRITE FILES", "EXTERNAL USE SCHEMA, SELECT", "GRANT SELECT"),
        ];
        for (asked, message, missing, grant) in cases {
            let e = denied(asked, "PERMISSION_DENIED", message, Some("me@x.org"), Some("lake"));
            assert_eq!(e.kind, crate::Kind::Acl);
            assert!(e.message.contains(missing) && e.message.contains(grant), "{message}: {e}");
        }
        assert_eq!(named("CREATE EXTERNAL TABLE, selected"), ["CREATE EXTERNAL TABLE"]);
        let e = denied(Asked::Path { url, new: true }, "", "External access is not enabled", None, None);
        assert!(
            e.message.contains("Catalog Explorer") && e.message.contains("`<the one that contains s3://lake/bpm>`"),
            "{e}"
        );
        assert!(e.message.contains("TO `<your login>`"), "{e}");
    }
}
