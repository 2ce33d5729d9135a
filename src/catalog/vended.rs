//! Credentials that Unity Catalog gives for one table or path, as options of object_store.

use super::name::SchemaName;
use crate::storage::Answer;
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Clocks of two machines that differ by less than this count as equal.
const SKEW: i64 = 5_000_000;

/// The options for the store, over `fixed` (region, endpoint), and how long they are valid. `server`: the catalog's own time of the answer.
pub(super) fn answer(
    given: &Value,
    fixed: &BTreeMap<String, String>,
    clock: &SharedClock,
    server: Option<EventTime>,
) -> Result<Answer> {
    let mut options = fixed.clone();
    options.extend(options_of(given)?.into_iter().map(|(name, value)| (name.to_string(), value)));
    let until = given["expiration_time"].as_i64().filter(|ms| *ms > 0).and_then(|ms| ms.checked_mul(1000));
    let here = clock.now();
    // If the clock of this machine is wrong, valid credentials must not look expired, and expired ones must not look valid.
    let now = server.filter(|at| (at.0 - here.0).abs() > SKEW).unwrap_or(here);
    let life = until.map(|until| Duration::from_micros(u64::try_from(until.saturating_sub(now.0)).unwrap_or(0)));
    Ok(Answer { options, life })
}

fn options_of(given: &Value) -> Result<Vec<(&'static str, String)>> {
    let text = |of: &Value, name: &str| {
        of[name].as_str().filter(|t| !t.is_empty()).map(str::to_string).ok_or_else(|| {
            Error::storage(format!(
                "Unity Catalog gave credentials without {name}. Give the store's own credentials in storage_options=."
            ))
        })
    };
    let is = |name: &str| given.get(name).filter(|v| v.is_object());
    if let Some(aws) = is("aws_temp_credentials") {
        let mut out = vec![
            ("aws_access_key_id", text(aws, "access_key_id")?),
            ("aws_secret_access_key", text(aws, "secret_access_key")?),
        ];
        // Servers with fixed keys have no session.
        out.extend(text(aws, "session_token").ok().map(|token| ("aws_session_token", token)));
        return Ok(out);
    }
    if let Some(sas) = is("azure_user_delegation_sas") {
        return Ok(vec![("azure_storage_sas_key", text(sas, "sas_token")?)]);
    }
    if let Some(aad) = is("azure_aad") {
        return Ok(vec![("azure_storage_token", text(aad, "aad_token")?)]);
    }
    if let Some(gcp) = is("gcp_oauth_token") {
        return Ok(vec![("google_bearer_token", text(gcp, "oauth_token")?)]);
    }
    let kinds: Vec<&String> = given.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    Err(Error::storage(format!(
        "Unity Catalog gave no credentials that bayou knows (S3, Azure, Google): its answer has {kinds:?}. Give the store's own credentials in \
         storage_options=."
    )))
}

/// Where the schema keeps its tables, if it says so.
pub(super) fn root_of(schema: &Value, name: &SchemaName) -> Result<String> {
    ["storage_root", "storage_location"]
        .iter()
        .find_map(|field| schema[field].as_str().filter(|t| !t.is_empty()))
        .map(|root| root.trim_end_matches('/').to_string())
        .ok_or_else(|| {
            Error::config(format!(
                "the schema {name} has no storage root, so a new table needs location=, for example \
                 location=\"s3://bucket/folder\" (a folder of its own below an external location)"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clock(at: i64) -> SharedClock {
        struct Still(i64);
        impl crate::time::Clock for Still {
            fn now(&self) -> EventTime {
                EventTime(self.0)
            }
        }
        SharedClock::new(Still(at))
    }

    #[test]
    fn credentials_of_each_cloud_become_the_options_of_its_store() {
        let fixed: BTreeMap<String, String> = [("aws_region".to_string(), "eu".to_string())].into();
        let cases = [
            (
                json!({"aws_temp_credentials": {"access_key_id": "k", "secret_access_key": "s", "session_token": "t"}}),
                vec![("aws_access_key_id", "k"), ("aws_secret_access_key", "s"), ("aws_session_token", "t")],
            ),
            (
                json!({"azure_user_delegation_sas": {"sas_token": "sv=1&sig=x"}, "aws_temp_credentials": null}),
                vec![("azure_storage_sas_key", "sv=1&sig=x")],
            ),
            (json!({"azure_aad": {"aad_token": "a"}}), vec![("azure_storage_token", "a")]),
            (json!({"gcp_oauth_token": {"oauth_token": "g"}}), vec![("google_bearer_token", "g")]),
        ];
        for (mut given, wanted) in cases {
            given["expiration_time"] = json!(10_000);
            let found = answer(&given, &fixed, &clock(4_000_000), None).unwrap();
            assert_eq!(found.life, Some(Duration::from_secs(6)));
            assert_eq!(found.options["aws_region"], "eu");
            assert_eq!(found.options.len(), wanted.len() + 1);
            for (name, value) in wanted {
                assert_eq!(found.options[name], value);
            }
        }
        let e = answer(&json!({"r2_temp_credentials": {}, "url": "r2://x"}), &fixed, &clock(0), None).err().unwrap();
        assert!(e.message.contains("r2_temp_credentials") && e.message.contains("storage_options="), "{e}");
    }

    #[test]
    fn a_clock_that_is_wrong_here_does_not_decide_when_credentials_expire() {
        let given = json!({"gcp_oauth_token": {"oauth_token": "g"}, "expiration_time": 3_600_000});
        let life = |here: i64, server: Option<i64>| {
            answer(&given, &BTreeMap::new(), &clock(here), server.map(EventTime)).unwrap().life.unwrap().as_secs()
        };
        assert_eq!(life(0, None), 3600);
        assert_eq!(life(0, Some(1_000_000)), 3600, "as good as equal");
        assert_eq!(life(7_200_000_000, Some(0)), 3600);
        assert_eq!(life(0, Some(3_000_000_000)), 600);
        let none = json!({"gcp_oauth_token": {"oauth_token": "g"}, "expiration_time": 0});
        assert_eq!(answer(&none, &BTreeMap::new(), &clock(0), None).unwrap().life, None);
    }
}
