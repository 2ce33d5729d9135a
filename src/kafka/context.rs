//! Texts that librdkafka reports in callbacks, and what its errors mean for the caller.

use super::{properties::Secrets, token::Tokens};
use crate::error::{Error, Kind};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, client::OAuthToken, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Collects the error events of a client, because the calls themselves only return "timed out".
#[derive(Default)]
pub(super) struct Watch {
    secrets: Secrets,
    tokens: Option<Arc<Tokens>>,
    seen: Mutex<Seen>,
    /// Why there is no token now. librdkafka reports the reason once, and asks for a token again seconds later.
    no_token: Mutex<Option<String>>,
}

#[derive(Default, Clone)]
pub(super) struct Seen {
    /// The credentials or the certificate were refused, so waiting does not help.
    pub auth: Option<String>,
    /// The last text about each broker, without duplicates.
    pub reasons: VecDeque<String>,
    pub all_down: bool,
    /// The reasons of earlier calls. They are only shown in texts. For a while, librdkafka does not report the same
    /// failure of a broker again.
    before: VecDeque<(Instant, String)>,
    /// When the client was made, or `forget` was called last. Nothing that was noted is older.
    since: Option<Instant>,
}

const KEPT_REASONS: usize = 8;
/// For this long, an earlier reason may also be the reason of this call. The time is longer than the time for which
/// librdkafka does not report a repeated failure.
const BEFORE: Duration = Duration::from_secs(60);
/// The reason if nothing else is known about a cluster.
pub(super) const NO_ANSWER: &str = "no answer";

impl Watch {
    pub(super) fn new(secrets: Secrets, tokens: Option<Arc<Tokens>>) -> Self {
        let seen = Mutex::new(Seen { since: Some(Instant::now()), ..Seen::default() });
        Self { secrets, tokens, seen, ..Self::default() }
    }

    /// A token for SASL OAUTHBEARER. librdkafka asks for the first one when a client is made.
    pub(super) fn next_token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let none = "sasl.mechanism is OAUTHBEARER, and there is no 'oauth_cb' that returns tokens";
        let next = self.tokens.as_ref().ok_or(none)?.next();
        *self.no_token.lock() = next.as_ref().err().cloned();
        Ok(next?)
    }

    pub(super) fn seen(&self) -> Seen {
        let mut seen = self.seen.lock().clone();
        seen.auth = seen.auth.or_else(|| self.no_token.lock().clone());
        seen
    }

    pub(super) fn forget(&self) {
        let mut seen = self.seen.lock();
        let Seen { reasons, mut before, since, .. } = std::mem::take(&mut *seen);
        let now = Instant::now();
        // A client that nobody uses collects events, whose times are not known.
        let since = since.unwrap_or(now);
        before.retain(|(at, reason)| now.duration_since(*at) < BEFORE && !reasons.contains(reason));
        before.extend(reasons.into_iter().map(|reason| (since, reason)));
        before.drain(..before.len().saturating_sub(KEPT_REASONS));
        (seen.before, seen.since) = (before, Some(now));
    }

    fn note(&self, code: Code, reason: &str) {
        let reason = tidy(&self.secrets.scrub(reason));
        let mut seen = self.seen.lock();
        match meant(code, &reason) {
            Code::AllBrokersDown => {
                seen.all_down = true;
                return; // "2/2 brokers are down" adds nothing to the reason of each broker.
            }
            Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed => seen.auth = Some(reason.clone()),
            _ => {}
        }
        if !seen.reasons.contains(&reason) {
            seen.reasons.push_back(reason);
            if seen.reasons.len() > KEPT_REASONS {
                seen.reasons.pop_front();
            }
        }
    }
}

impl Seen {
    /// A sentence about addresses that a broker has given and that cannot be reached, while the given address has answered.
    pub(super) fn elsewhere(&self, address: &str) -> String {
        // "host:9092/1: Connect to …": of the broker 1, whose address the cluster has advertised. "/bootstrap" is the given address.
        let given = |host: &str| address.split(',').any(|a| a.trim().rsplit("://").next() == Some(host));
        let advertised = |reason: &&str| {
            let place = reason.split(": ").next().unwrap_or_default();
            let (host, broker) = place.rsplit_once('/')?;
            let host = host.rsplit("://").next().unwrap_or(host);
            (broker.parse::<i32>().is_ok() && !given(host)).then(|| host.to_string())
        };
        match self.causes().iter().rev().find_map(advertised) {
            Some(host) => format!(
                " The cluster answered at {address} and says that its broker is at {host} (advertised.listeners): that address must be \
                 reachable from here."
            ),
            None => String::new(),
        }
    }

    /// What is known about why there is no answer.
    pub(super) fn causes(&self) -> Vec<&str> {
        if !self.reasons.is_empty() {
            return self.reasons.iter().map(String::as_str).collect();
        }
        let is_recent = |(at, _): &&(Instant, String)| at.elapsed() < BEFORE;
        self.before.iter().filter(is_recent).map(|(_, reason)| reason.as_str()).collect()
    }

    /// The error to return if a cluster did not answer.
    pub(super) fn unreachable(&self, address: &str) -> Error {
        if let Some(reason) = &self.auth {
            return Error::auth(format!("Kafka at {address} refused the connection: {reason}. {}.", remedy(reason)));
        }
        let causes = self.causes();
        let reasons: Vec<_> = causes.iter().rev().take(3).copied().collect();
        let why = if reasons.is_empty() { NO_ANSWER.to_string() } else { reasons.join("; ") };
        Error::connection(format!(
            "Kafka at {address} cannot be reached: {why}. Check the address (host:port), that the broker runs, and that this \
             machine may reach it.{}{}{}",
            self.elsewhere(address),
            if causes.iter().any(|r| r.contains(NOT_NOW)) {
                " A listener without SASL answers in this way: check security.protocol."
            } else {
                ""
            },
            // The hint is for users who have no Kafka yet.
            if is_here(address) { " bayou.connect() without an argument starts a broker in memory." } else { "" }
        ))
    }
}

/// Whether an address is one of this machine.
fn is_here(address: &str) -> bool {
    address.split(',').any(|a| ["localhost", "127.", "[::1]"].iter().any(|here| a.trim().starts_with(here)))
}

/// A reason without the broker's name at its beginning. The name can be any word.
fn behind_the_broker(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(_, said)| said)
}

/// What librdkafka's code means, with its text. librdkafka reports a connection that is cut within a handshake as refused credentials, and a
/// client certificate that a broker refuses as a transport failure.
pub(super) fn meant(code: Code, text: &str) -> Code {
    const CUT: [&str; 6] = [
        "Local: Broker transport failure",
        "Local: Timed out",
        "Local: Host resolution failure",
        "Disconnected",
        "Connection reset",
        "timed out",
    ];
    const ALERTS: [&str; 7] = [
        "bad certificate",
        "certificate required",
        "unknown ca",
        "certificate expired",
        "certificate unknown",
        "certificate revoked",
        "unsupported certificate",
    ];
    let said = behind_the_broker(text);
    let has = |words: &[&str]| words.iter().any(|w| said.contains(w));
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL if has(&CUT) => Code::BrokerTransportFailure,
        // A client that logs in again within a second of its last login gets this refusal, and tries again.
        Code::Authentication | Code::SaslAuthenticationFailed if said.contains(NOT_NOW) => Code::BrokerTransportFailure,
        _ if said.contains("alert") && has(&ALERTS) => Code::SSL,
        code => code,
    }
}

/// A listener without SASL gives the same answer.
const NOT_NOW: &str = "Request not valid in current SASL state";

/// The settings to look at, by what a broker or OpenSSL says.
fn remedy(reason: &str) -> &'static str {
    let said = behind_the_broker(reason);
    let has = |word: &str| said.contains(word);
    if reason.contains("oauth_cb") {
        return "oauth_cb is a function that returns a token, or (token, seconds since the Unix epoch when it expires)";
    }
    if has("OAUTHBEARER") || has("invalid_token") {
        return "The broker does not accept the token. Check what oauth_cb returns: audience, scope, and when it expires";
    }
    if has("alert") && (has("SSL") || has("ssl") || has("tls")) {
        return "The broker refuses the certificate of this client, or requires one. Check ssl.certificate.location and ssl.key.location (or \
                ssl.keystore.location), and that the broker knows its CA";
    }
    if has("certificate verify failed") || has("certificate") {
        return "The broker's certificate is not trusted. Check ssl.ca.location, the host name in the certificate, and its dates";
    }
    if has("SSL") || has("ssl_") {
        return "Check security.protocol and ssl.ca.location";
    }
    "Check sasl.mechanism, sasl.username and sasl.password"
}

/// "host:1/bootstrap: Connect to ipv4#… failed: Connection refused (after 0ms in state CONNECT, 3 identical error(s)
/// suppressed)" without the end, which changes with every event.
pub(super) fn tidy(reason: &str) -> String {
    let tail = reason.find(" (after ").filter(|_| reason.trim_end().ends_with(')'));
    reason[..tail.unwrap_or(reason.len())].trim().trim_end_matches('.').to_string()
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.next_token()
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // Errors also arrive as events, so these log lines are details.
        log::debug!(target: "bayou::kafka", "librdkafka {level:?} {fac}: {}", self.secrets.scrub(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(error.rdkafka_error_code().unwrap_or(Code::Unknown), reason);
    }
}

impl ConsumerContext for Watch {}

/// Gives a client's context with a field `watch` the callbacks of `Watch`.
macro_rules! watched {
    ($context:ty) => {
        impl rdkafka::ClientContext for $context {
            const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

            fn generate_oauth_token(
                &self,
                _: Option<&str>,
            ) -> std::result::Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
                self.watch.next_token()
            }

            fn log(&self, level: rdkafka::config::RDKafkaLogLevel, fac: &str, message: &str) {
                self.watch.log(level, fac, message);
            }

            fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
                self.watch.error(error, reason);
            }
        }
    };
}
pub(super) use watched;

/// The kind of error, which tells the caller what to do.
pub(super) fn kind_of(code: Code) -> Kind {
    match code {
        Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed => Kind::Auth,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Kind::Acl,
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic
        | Code::TopicAlreadyExists => Kind::Topic,
        Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::MessageSizeTooLarge => Kind::Config,
        _ => Kind::Connection,
    }
}

/// A code with librdkafka's text, as an error about `what`.
pub(super) fn failed(what: &str, code: Code, text: &str) -> Error {
    let code = meant(code, text);
    let kind = kind_of(code);
    let hint = match kind {
        Kind::Acl => ". Ask for the right ACL, or use different credentials.",
        Kind::Connection => ". The broker may be gone or overloaded. You can safely try again.",
        _ => "",
    };
    Error::new(kind, format!("{what}: {}{hint}", text.trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn the_tail_that_changes_is_cut_off() {
        for tail in
            ["", " (after 0ms in state CONNECT)", " (after 1ms in state CONNECT, 3 identical error(s) suppressed)"]
        {
            assert_eq!(tidy(&format!("h:1/bootstrap: Connection refused{tail}")), "h:1/bootstrap: Connection refused");
        }
    }
}
