//! The login for requests to the catalog: a token, a service principal (OAuth), or the login of databricks-sdk.

use super::rest::{Rest, host};
use crate::error::{learn_passing_secret, learn_secret};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use url::Url;

/// Headers of a request, by name.
pub(super) type Headers = BTreeMap<String, String>;
/// Gives the headers of requests. It is called on a thread of its own, because it may need Python.
pub(crate) type AskHeaders = Arc<dyn Fn() -> Result<Headers> + Send + Sync>;

/// How long before its end a token of a service principal is renewed.
const AHEAD: Duration = Duration::from_secs(60);
/// How long to wait for the answer of a login.
const PATIENCE: Duration = Duration::from_secs(60);

struct Token {
    value: String,
    renew_at: Option<Instant>,
}

enum Kind {
    Token(String),
    Client { id: String, secret: String, held: Mutex<Option<Token>> },
    Asked(AskHeaders),
}

/// A login at one host.
pub(crate) struct Identity {
    pub(super) host: Url,
    kind: Kind,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.host.host_str().unwrap_or_default())
    }
}

impl Identity {
    /// The login in options or in the environment. If neither has one, databricks-sdk may have one. `options`: of `storage_options=`, with the names of delta-rs.
    pub(crate) fn find(options: &BTreeMap<String, String>) -> Result<Option<Self>> {
        Self::of(options, |name| std::env::var(name).ok())
    }

    fn of(options: &BTreeMap<String, String>, env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let find = |option: &str, from_env: bool| {
            let given =
                options.iter().find(|(name, _)| name.eq_ignore_ascii_case(option)).map(|(_, value)| value.clone());
            given.or_else(|| env(&option.to_uppercase()).filter(|_| from_env)).filter(|v| !v.trim().is_empty())
        };
        let is_login = |name: &str| name.to_lowercase().starts_with("databricks_");
        let from_options = options.keys().any(|name| is_login(name) && !name.eq_ignore_ascii_case("databricks_host"));
        // A token of the environment does not belong to a service principal of the options.
        let find = |option: &str| find(option, !from_options || option == "databricks_host");
        let Some(host) = find("databricks_host") else {
            return match from_options {
                true => Err(Error::config(
                    "the login at Unity Catalog has no databricks_host. Add it, or set DATABRICKS_HOST.",
                )),
                false => Ok(None),
            };
        };
        let allow_http = options
            .iter()
            .any(|(n, v)| n.eq_ignore_ascii_case("unity_allow_http_url") && v.eq_ignore_ascii_case("true"));
        let host = self::host(&host, allow_http)?;
        if let Some(token) = find("databricks_token") {
            learn_secret(&token);
            return Ok(Some(Self { host, kind: Kind::Token(token) }));
        }
        match (find("databricks_client_id"), find("databricks_client_secret")) {
            (Some(id), Some(secret)) => {
                learn_secret(&secret);
                Ok(Some(Self { host, kind: Kind::Client { id, secret, held: Mutex::new(None) } }))
            }
            (Some(_), None) | (None, Some(_)) if from_options => Err(Error::config(
                "the login of a service principal needs both databricks_client_id and databricks_client_secret",
            )),
            _ => Ok(None),
        }
    }

    /// A login that gives the headers itself.
    pub(crate) fn asked(host: &str, ask: AskHeaders) -> Result<Self> {
        Ok(Self { host: self::host(host, false)?, kind: Kind::Asked(ask) })
    }

    /// Whether a refused login can be renewed.
    pub(super) fn renews(&self) -> bool {
        !matches!(self.kind, Kind::Token(_))
    }

    /// The headers of a request. `anew`: the previous headers were refused.
    pub(super) async fn headers(&self, rest: &Rest, anew: bool) -> Result<Headers> {
        let bearer = |token: &str| [("Authorization".to_string(), format!("Bearer {token}"))].into();
        match &self.kind {
            Kind::Token(token) => Ok(bearer(token)),
            Kind::Asked(ask) => {
                let headers = called(ask.clone()).await?;
                // The value as a whole, and the token in it.
                let value = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
                if let Some(token) = value.and_then(|(_, v)| v.split_whitespace().last()) {
                    learn_passing_secret(token);
                }
                Ok(headers)
            }
            Kind::Client { id, secret, held } => {
                let mut held = held.lock().await;
                let good = |t: &&Token| !anew && t.renew_at.is_none_or(|at| Instant::now() < at);
                if let Some(token) = held.as_ref().filter(good) {
                    return Ok(bearer(&token.value));
                }
                let (value, life) = rest.token(id, secret).await?;
                learn_passing_secret(&value);
                let headers = bearer(&value);
                let renew_at = life.map(|life| Instant::now() + (life - AHEAD.min(life / 4)));
                *held = Some(Token { value, renew_at });
                Ok(headers)
            }
        }
    }
}

/// Calls the user's login on a thread of its own, with a time limit.
async fn called(ask: AskHeaders) -> Result<Headers> {
    let (done, answer) = tokio::sync::oneshot::channel();
    let call = move || {
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask()));
        let _ = done.send(called.unwrap_or_else(|_| Err(Error::internal("the login panicked"))));
    };
    std::thread::Builder::new()
        .name("bayou-credentials".into())
        .spawn(call)
        .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(headers)) => headers,
        Ok(Err(_)) => Err(Error::internal("the login ended without an answer")),
        Err(_) => {
            Err(Error::auth(format!("the login of databricks-sdk has not answered for {} seconds", PATIENCE.as_secs())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(options: &[(&str, &str)], env: &[(&str, &str)]) -> String {
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let env = |name: &str| env.iter().find(|(k, _)| *k == name).map(|(_, v)| v.to_string());
        match Identity::of(&options, env) {
            Err(e) => e.message,
            Ok(None) => "nothing".into(),
            Ok(Some(i)) => match i.kind {
                Kind::Token(t) => format!("{} token {t}", i.host),
                Kind::Client { id, secret, .. } => format!("{} client {id} {secret}", i.host),
                Kind::Asked(_) => "asked".into(),
            },
        }
    }

    #[test]
    fn options_come_before_the_environment_and_are_not_mixed_with_it() {
        let host = ("DATABRICKS_HOST", "https://e");
        let token = ("DATABRICKS_TOKEN", "of-env");
        assert_eq!(found(&[], &[]), "nothing");
        assert_eq!(found(&[], &[host]), "nothing");
        assert_eq!(found(&[], &[host, token]), "https://e/ token of-env");
        assert_eq!(found(&[("databricks_host", "o.net")], &[host, token]), "https://o.net/ token of-env");
        let client = [("databricks_client_id", "me"), ("databricks_client_secret", "s")];
        assert_eq!(found(&client, &[host, token]), "https://e/ client me s");
        assert!(found(&client[..1], &[host, token, ("DATABRICKS_CLIENT_SECRET", "x")]).contains("needs both"));
        let principal = [host, ("DATABRICKS_CLIENT_ID", "me"), ("DATABRICKS_CLIENT_SECRET", "s")];
        assert_eq!(found(&[], &principal), "https://e/ client me s");
        assert!(found(&[("databricks_token", "t")], &[]).contains("no databricks_host"));
    }

    #[test]
    fn a_token_is_sent_over_https_only_but_for_this_machine() {
        let of = |host: &str| found(&[("databricks_host", host), ("databricks_token", "t")], &[]);
        assert!(of("http://catalog.example").contains("https"), "{}", of("http://catalog.example"));
        assert_eq!(of("http://127.0.0.1:8080"), "http://127.0.0.1:8080/ token t");
        let allowed =
            [("databricks_host", "http://uc:8080"), ("databricks_token", "t"), ("unity_allow_http_url", "true")];
        assert_eq!(found(&allowed, &[]), "http://uc:8080/ token t");
        assert_eq!(of("adb-1.2.azuredatabricks.net/?o=12"), "https://adb-1.2.azuredatabricks.net/ token t");
        assert!(of("https://user:pass@h").contains("is not the address"), "{}", of("https://user:pass@h"));
    }
}
