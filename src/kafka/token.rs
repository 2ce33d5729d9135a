//! Tokens for SASL OAUTHBEARER from a function of the user. A token is kept until most of its life is over; then the function is called again.

use super::ask::Question;
use crate::error::{Error, Kind, Result};
use base64::Engine;
use parking_lot::Mutex;
use rdkafka::client::OAuthToken;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the function may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// A token, and its end in milliseconds since the Unix epoch.
#[derive(Clone)]
pub struct Token {
    pub value: String,
    /// For the logs of brokers.
    pub principal: String,
    pub expires: i64,
}

/// Where tokens come from. It is called on a thread of its own.
pub trait TokenSource: Send + Sync {
    /// An error's text has no secret.
    fn token(&self) -> Result<Token>;
}

/// The tokens of one connection.
pub(super) struct Tokens {
    source: Arc<dyn TokenSource>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Clone)]
struct Kept {
    token: Token,
    since: i64,
}

/// librdkafka compares a token's end with the machine's clock, so bayou uses the same clock here.
#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Kept {
    /// librdkafka asks for the next token when four fifths of the life are over.
    fn is_fresh(&self, now: i64) -> bool {
        let (life, left) = (self.token.expires - self.since, self.token.expires - now);
        left > 0 && left > life / 4
    }
}

impl Tokens {
    pub(super) fn new(source: Arc<dyn TokenSource>) -> Self {
        Self { source, kept: Mutex::default() }
    }

    /// A token for a client that asks. While the last token is still valid, a function that fails is called again later.
    pub(super) fn next(&self) -> std::result::Result<OAuthToken, String> {
        // One call of the function at a time: other clients wait for its answer.
        let mut kept = self.kept.lock();
        if let Some(fresh) = kept.as_ref().filter(|k| k.is_fresh(now())) {
            return Ok(fresh.token.native());
        }
        match self.ask() {
            Ok(token) => {
                // No text may ever show the token.
                crate::error::learn_passing_secret(&token.value);
                let native = token.native();
                *kept = Some(Kept { token, since: now() });
                Ok(native)
            }
            Err(e) => match kept.as_ref().filter(|k| k.token.expires > now()) {
                Some(old) => {
                    log::warn!(target: "bayou::kafka", "{}. The last token still counts, and the function is asked again.", e.message);
                    Ok(old.token.native())
                }
                None => Err(e.message),
            },
        }
    }

    fn ask(&self) -> Result<Token> {
        let source = self.source.clone();
        let question = Question::ask(move || source.token())?;
        let late = || {
            let seconds = PATIENCE.as_secs();
            Error::auth(format!("the function of 'oauth_cb' has not returned a token within {seconds} seconds"))
        };
        let answer = question.answer(PATIENCE).ok_or_else(late)?;
        let token = answer.map_err(|e| match e.kind {
            // The thread ended.
            Kind::Internal => Error::auth("the function of 'oauth_cb' ended without a token"),
            _ => e,
        })?;
        let over = now() - token.expires;
        if over >= 0 {
            return Err(Error::auth(format!(
                "the token of 'oauth_cb' expired {} seconds ago. Check the function, and the clock of this machine",
                over / 1000
            )));
        }
        Ok(token)
    }
}

impl Token {
    fn native(&self) -> OAuthToken {
        OAuthToken { token: self.value.clone(), principal_name: self.principal.clone(), lifetime_ms: self.expires }
    }
}

/// librdkafka's source of unsecured tokens, for tests of clusters (`enable.sasl.oauthbearer.unsecure.jwt=true`), from
/// `sasl.oauthbearer.config`: "principal=admin scope=a,b lifeSeconds=3600".
struct Unsecured {
    config: String,
}

pub(super) fn unsecured(properties: &BTreeMap<String, String>) -> Option<Arc<dyn TokenSource>> {
    let asked = properties.get("enable.sasl.oauthbearer.unsecure.jwt").is_some_and(|v| v == "true");
    let config = properties.get("sasl.oauthbearer.config").cloned().unwrap_or_default();
    asked.then(|| Arc::new(Unsecured { config }) as Arc<dyn TokenSource>)
}

impl TokenSource for Unsecured {
    fn token(&self) -> Result<Token> {
        let pairs: BTreeMap<&str, &str> = self.config.split_whitespace().filter_map(|p| p.split_once('=')).collect();
        let get = |name: &str, default: &'static str| pairs.get(name).copied().unwrap_or(default).to_string();
        let principal = get("principal", "");
        let life: i64 = get("lifeSeconds", "3600").parse().unwrap_or(0);
        if principal.is_empty() || life <= 0 {
            return Err(Error::auth(
                "sasl.oauthbearer.config has the form \"principal=admin scope=a,b lifeSeconds=3600\" (its text is not shown)",
            ));
        }
        let expires = now() + life * 1000;
        let mut claims = serde_json::json!({ "iat": now() / 1000, "exp": expires / 1000 });
        claims[get("principalClaimName", "sub")] = principal.as_str().into();
        let scope = get("scope", "");
        if !scope.is_empty() {
            claims[get("scopeClaimName", "scope")] = scope.split(',').collect::<Vec<_>>().into();
        }
        let part = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let value = format!("{}.{}.", part("{\"alg\":\"none\"}".into()), part(claims.to_string()));
        Ok(Token { value, principal, expires })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted {
        calls: AtomicUsize,
        /// The life of a token in milliseconds. None: the function fails.
        life: Mutex<Option<i64>>,
    }

    impl TokenSource for Arc<Counted> {
        fn token(&self) -> Result<Token> {
            let n = self.calls.fetch_add(1, Ordering::SeqCst);
            let life = self.life.lock().ok_or_else(|| Error::auth("the function of 'oauth_cb' raised ValueError"))?;
            Ok(Token { value: format!("token-{n}"), principal: "p".into(), expires: now() + life })
        }
    }

    fn counted(life: Option<i64>) -> (Arc<Counted>, Tokens) {
        let source = Arc::new(Counted { calls: AtomicUsize::new(0), life: Mutex::new(life) });
        (source.clone(), Tokens::new(Arc::new(source)))
    }

    #[test]
    fn a_token_serves_all_clients_until_most_of_its_life_is_over() {
        let (source, tokens) = counted(Some(3_600_000));
        for _ in 0..5 {
            assert_eq!(tokens.next().unwrap().token, "token-0");
        }
        assert_eq!(source.calls.load(Ordering::SeqCst), 1);
        if let Some(kept) = tokens.kept.lock().as_mut() {
            kept.since -= 10 * 3_600_000;
        }
        assert_eq!(tokens.next().unwrap().token, "token-1");
    }

    #[test]
    fn a_function_that_fails_is_survived_while_the_last_token_counts() {
        let (source, tokens) = counted(Some(600_000));
        tokens.next().unwrap();
        *source.life.lock() = None;
        let set = |since: i64, expires: i64| {
            let token = Token { value: "old".into(), principal: "p".into(), expires };
            *tokens.kept.lock() = Some(Kept { token, since });
        };
        set(now() - 900_000, now() + 60_000);
        assert_eq!(tokens.next().unwrap().token, "old", "it still counts");
        set(now() - 900_000, now() - 1);
        assert_eq!(tokens.next().err().unwrap(), "the function of 'oauth_cb' raised ValueError");
        *source.life.lock() = Some(-5000);
        assert!(tokens.next().err().unwrap().contains("expired 5 seconds ago"));
    }
}
