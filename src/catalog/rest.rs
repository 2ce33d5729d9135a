//! Requests to Unity Catalog. A request that is safe to repeat is repeated. The error of any other request says that its outcome is not known.

use super::identity::Identity;
use crate::time::EventTime;
use crate::{Error, Kind, Result};
use reqwest::header::{DATE, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use std::time::{Duration, Instant};
use url::Url;

/// The longest time for a request with all its repetitions. It is below a minute, because a caller that asks for credentials waits for a minute.
const MOST: Duration = Duration::from_secs(50);
/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The answer to a request that the server understood.
pub(super) enum Answer {
    Good { body: Value, at: Option<EventTime> },
    Refused { status: u16, code: String, message: String },
}

/// What may happen if a request is sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Safe,
    /// After an error the caller checks whether the request took effect.
    No,
}

pub(super) struct Rest {
    client: Client,
    pub identity: Identity,
}

/// The address of the catalog, from a text that users copy: with or without a scheme, with a path or a question mark.
pub(super) fn host(text: &str, allow_http: bool) -> Result<Url> {
    let text = text.trim();
    let wrong = |why: &str| {
        crate::error::learn_url(text);
        Error::config(format!("databricks_host='{text}' is not the address of a workspace or a catalog{why}"))
    };
    let whole = if text.contains("://") { text.to_string() } else { format!("https://{text}") };
    let mut url = Url::parse(&whole).map_err(|e| wrong(&format!(" ({e})")))?;
    if !url.username().is_empty() || url.password().is_some() || !["http", "https"].contains(&url.scheme()) {
        return Err(wrong(". Write https:// and the host's name"));
    }
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(wrong("")),
    };
    if url.scheme() == "http" && !here && !allow_http {
        return Err(wrong(
            ": over http, anyone on the network could read the token. Write https://, or for a catalog in a closed network \
             storage_options={\"unity_allow_http_url\": \"true\"}",
        ));
    }
    url.set_query(None);
    url.set_fragment(None);
    url.set_path("");
    Ok(url)
}

impl Rest {
    pub(super) fn new(identity: Identity) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("bayou/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .timeout(TIMEOUT)
            // A redirection is a login page, or a host that must not get the token.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Error::internal(format!("no HTTP client: {e}")))?;
        Ok(Self { client, identity })
    }

    fn shown(&self) -> &str {
        self.identity.host.host_str().unwrap_or_default()
    }

    /// `path` begins with "/api"; names in it are escaped by `segment`.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>, repeat: Repeat) -> Result<Answer> {
        let url = self.identity.host.join(path).map_err(|e| Error::internal(format!("{path}: {e}")))?;
        let (mut anew, mut patience) = (false, Patience::new());
        loop {
            let mut request = self.client.request(method.clone(), url.clone());
            for (name, value) in self.identity.headers(self, anew).await? {
                request = request.header(name, value);
            }
            if let Some(body) = body {
                request = request.header("Content-Type", "application/json").body(body.to_string());
            }
            let (why, wait) = match sent(request).await {
                Err(e) if repeat == Repeat::Safe || e.is_connect() => {
                    (format!("cannot be reached: {}", told(&e)), None)
                }
                Err(e) => return Err(self.unknown(&told(&e))),
                Ok(Sent { status, body, at, retry_after }) => match status {
                    StatusCode::UNAUTHORIZED if !anew && self.identity.renews() => {
                        anew = true;
                        continue;
                    }
                    StatusCode::UNAUTHORIZED => {
                        return Err(Error::auth(format!(
                            "Unity Catalog at {} does not accept the login{}. Check the token or the service principal, and whether it has expired.",
                            self.shown(),
                            if anew { ", also after it was renewed" } else { "" }
                        )));
                    }
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                        (format!("is busy ({})", status.as_u16()), retry_after)
                    }
                    s if s.is_server_error() && repeat == Repeat::Safe => {
                        (format!("failed ({})", s.as_u16()), retry_after)
                    }
                    s if s.is_server_error() => return Err(self.unknown(&format!("it answered {}", s.as_u16()))),
                    s => return self.read(s, &body, at),
                },
            };
            let Some(wait) = patience.wait(wait) else {
                return Err(Error::new(
                    Kind::Connection,
                    format!(
                        "Unity Catalog at {} {why}, for {} seconds. Run again later.",
                        self.shown(),
                        patience.began.elapsed().as_secs()
                    ),
                ));
            };
            log::info!(
                "Unity Catalog at {} {why}. The request is sent again in {} ms.",
                self.shown(),
                wait.as_millis()
            );
            tokio::time::sleep(wait).await;
        }
    }

    fn unknown(&self, why: &str) -> Error {
        Error::new(
            Kind::Connection,
            format!("Unity Catalog at {}: {why}, so it is not known whether the request was executed", self.shown()),
        )
    }

    fn read(&self, status: StatusCode, body: &[u8], at: Option<EventTime>) -> Result<Answer> {
        let json: Option<Value> = match body.is_empty() {
            true => Some(Value::Null),
            false => serde_json::from_slice(body).ok(),
        };
        match json {
            Some(body) if status.is_success() => Ok(Answer::Good { body, at }),
            Some(body) if !status.is_redirection() => Ok(Answer::Refused {
                status: status.as_u16(),
                code: body["error_code"].as_str().unwrap_or_default().to_string(),
                message: body["message"].as_str().unwrap_or_default().chars().take(500).collect(),
            }),
            // The caller knows whether it asked for something that need not exist.
            None if status == StatusCode::NOT_FOUND => {
                Ok(Answer::Refused { status: 404, code: String::new(), message: String::new() })
            }
            _ => Err(Error::config(format!(
                "{} answered {} and sent no JSON: this server does not look like a Databricks workspace or a Unity Catalog server. Check DATABRICKS_HOST \
                 (or databricks_host in storage_options=).",
                self.shown(),
                status.as_u16()
            ))),
        }
    }

    /// A token for a service principal, and its life.
    pub(super) async fn token(&self, id: &str, secret: &str) -> Result<(String, Option<Duration>)> {
        let failed = |why: String| Error::auth(format!("no login at Unity Catalog at {}: {why}", self.shown()));
        let at = self.identity.host.join("/oidc/v1/token").map_err(|e| Error::internal(e.to_string()))?;
        let body = "grant_type=client_credentials&scope=all-apis";
        let mut patience = Patience::new();
        loop {
            let request = self.client.post(at.clone()).basic_auth(id, Some(secret));
            let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(body);
            let (why, wait) = match sent(request).await {
                Err(e) => (told(&e), None),
                Ok(s) if s.status == StatusCode::TOO_MANY_REQUESTS || s.status.is_server_error() => {
                    (format!("it answered {}", s.status.as_u16()), s.retry_after)
                }
                Ok(s) => {
                    let said: Value = serde_json::from_slice(&s.body).unwrap_or_default();
                    let Some(token) = said["access_token"].as_str().filter(|_| s.status.is_success()) else {
                        let code = said["error"].as_str().or(said["error_code"].as_str()).unwrap_or("no reason given");
                        return Err(failed(format!(
                            "the service principal was not accepted ({}: {code}). Check databricks_client_id and databricks_client_secret.",
                            s.status.as_u16()
                        )));
                    };
                    return Ok((token.to_string(), said["expires_in"].as_u64().map(Duration::from_secs)));
                }
            };
            let Some(wait) = patience.wait(wait) else { return Err(failed(why)) };
            tokio::time::sleep(wait).await;
        }
    }
}

/// How long a question is repeated, with longer and longer pauses.
struct Patience {
    began: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { began: Instant::now(), pause: PAUSE }
    }

    /// How long to wait before the next attempt: as the server says, or the next pause. None: there is no time left.
    fn wait(&mut self, told: Option<Duration>) -> Option<Duration> {
        let wait = told.unwrap_or(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        (self.began.elapsed() + wait < MOST).then_some(wait)
    }
}

struct Sent {
    status: StatusCode,
    body: Vec<u8>,
    at: Option<EventTime>,
    retry_after: Option<Duration>,
}

async fn sent(request: reqwest::RequestBuilder) -> reqwest::Result<Sent> {
    let answer = request.send().await?;
    let header = |name| answer.headers().get(name).and_then(|v: &reqwest::header::HeaderValue| v.to_str().ok());
    let at = header(DATE)
        .and_then(|t| chrono::DateTime::parse_from_rfc2822(t).ok())
        .map(|t| EventTime(t.timestamp_micros()));
    let retry_after = header(RETRY_AFTER).and_then(|t| t.trim().parse::<f64>().ok());
    let retry_after = retry_after.and_then(|s| Duration::try_from_secs_f64(s).ok());
    Ok(Sent { status: answer.status(), retry_after, at, body: answer.bytes().await?.to_vec() })
}

/// The innermost reason, without the URL.
fn told(e: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = e;
    while let Some(inner) = source.source() {
        source = inner;
    }
    if e.is_timeout() { "the server has not answered in time".into() } else { source.to_string() }
}

/// A part of a path, with everything escaped that is not a letter, a digit or one of `-._`.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
