//! Removes from texts for people: credentials, in any part of a URL, an option or a connection string, and control
//! characters for terminals. Errors contain texts of a store, a library or a message. So the cleaning is done where an
//! error is created, and not at each place that writes a text.

use parking_lot::RwLock;
use regex::{Captures, Regex};
use std::borrow::Cow;
use std::sync::LazyLock;

const HIDDEN: &str = "***";

/// The number of values that are known to be secret. It is far more than one process needs. Beyond it, the oldest
/// values are forgotten.
static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());
const MOST: usize = 4096;
/// Secrets that are replaced by newer ones again and again have a list of their own. So a query that runs for months
/// forgets its oldest tokens, and never a password.
static PASSING: RwLock<Vec<String>> = RwLock::new(Vec::new());
/// Shorter values would cut ordinary words apart.
const SHORTEST: usize = 8;

/// Names of options and parameters whose values are secret. The last part of the name decides.
const NAMES: &str = r"(?:sig|signature|secret|password|passwd|passphrase|pwd|token|credentials?|sas|authorization|(?:access|account|api|private|secret|shared|storage|client|master|encryption|customer|service_account|accesskey)[_.\-]?key(?:[_.\-]?id)?)";

/// Whether an option with this name is secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    static SECRET: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(&format!("(?i){NAMES}$")));
    SECRET.as_ref().is_none_or(|r| r.is_match(name))
}

/// From now on, this value is removed from every text, also if it is percent-encoded.
pub(crate) fn learn_secret(value: &str) {
    learn(&KNOWN, MOST, value);
}

/// The same for a token that a newer one will replace.
pub(crate) fn learn_passing_secret(value: &str) {
    learn(&PASSING, MOST / 8, value);
}

fn learn(known: &RwLock<Vec<String>>, most: usize, value: &str) {
    if value.len() < SHORTEST {
        return;
    }
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let mut known = known.write();
    for text in [value.to_string(), encoded.replace('+', "%20"), encoded] {
        if !known.contains(&text) {
            if known.len() >= most {
                known.remove(0);
            }
            known.push(text);
        }
    }
}

/// Learns the secrets in a target that a user wrote: user and password, and the values after the question mark.
pub(crate) fn learn_url(target: &str) {
    let Some((_, rest)) = target.split_once("://") else { return };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some((user, _)) = place.rsplit_once('@')
        && let Some((_, password)) = user.split_once(':')
    {
        learn_secret(password);
    }
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if is_secret_name(&name) {
            learn_secret(&value);
        }
    }
}

fn compiled(pattern: &str) -> Option<Regex> {
    let made = Regex::new(pattern);
    debug_assert!(made.is_ok(), "{made:?}");
    made.ok()
}

struct Rule {
    pattern: Option<Regex>,
    with: fn(&Captures<'_>) -> String,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |pattern: &str, with: fn(&Captures<'_>) -> String| Rule { pattern: compiled(pattern), with };
    vec![
        // The user in front of a host. In `abfss://`, a name without a password is a container.
        rule(r#"(?i)([a-z][a-z0-9+.\-]*:/+)([^\s'"<>`]*)@"#, |c| {
            let is_container = ["abfs", "wasb"].iter().any(|s| c[1].to_lowercase().starts_with(s));
            match is_container && !c[2].contains([':', '?', '=']) {
                true => c[0].to_string(),
                false => format!("{}{HIDDEN}@", &c[1]),
            }
        }),
        // The same without a scheme, or with a damaged scheme.
        rule(r#"[^\s'"<>`:@(]+:[^\s'"<>`@*][^\s'"<>`@]*@"#, |c| match c[0].contains("://") {
            true => c[0].to_string(),
            false => format!("{HIDDEN}@"),
        }),
        // A signed URL.
        rule(r#"(?i)([a-z][a-z0-9+.\-]*://[^\s'"<>`?#]*)[?#][^\s'"<>`]*"#, |c| format!("{}?{HIDDEN}", &c[1])),
        // name=value, in options, queries and connection strings.
        rule(&format!(r#"(?i)([\w.\-]*{NAMES})(["']?\s?=\s?)("[^"]*"|'[^']*'|[^\s&;,"'<>)]+)"#), |c| {
            format!("{}{}{HIDDEN}", &c[1], &c[2])
        }),
        // "name": "value" and 'name': 'value'.
        rule(&format!(r#"(?i)(["'][\w.\-]*{NAMES}["']\s*:\s*)("[^"]*"|'[^']*')"#), |c| {
            format!("{}\"{HIDDEN}\"", &c[1])
        }),
        // Texts of stores.
        rule(
            r"(?i)(<(?:\w*(?:AccessKeyId|Signature\w*|StringToSign\w*|CanonicalRequest\w*|Token|Secret\w*))>)[^<]*",
            |c| format!("{}{HIDDEN}", &c[1]),
        ),
        rule(r"(?i)\b(authorization\s*:\s*\w+\s+|bearer\s+)[A-Za-z0-9._~+/=\-]{8,}", |c| format!("{}{HIDDEN}", &c[1])),
        // Keys that are recognised by their form: of AWS, and web tokens.
        rule(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b|\beyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*", |_| HIDDEN.to_string()),
    ]
});

/// The text without credentials.
fn without_secrets(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    {
        let (known, passing) = (KNOWN.read(), PASSING.read());
        let mut found: Vec<&String> = known.iter().chain(&*passing).filter(|k| out.contains(k.as_str())).collect();
        found.sort_by_key(|k| std::cmp::Reverse(k.len()));
        for secret in found {
            out = Cow::Owned(out.replace(secret.as_str(), HIDDEN));
        }
    }
    // Most texts contain none of these, and skip the rules.
    if !out.contains(['=', '@', '<'])
        && !["://", "\":", "':", "earer", "uthorization", "AKIA", "ASIA", "eyJ"].iter().any(|p| out.contains(p))
    {
        return out;
    }
    for rule in RULES.iter() {
        if let Some(pattern) = &rule.pattern
            && pattern.is_match(&out)
        {
            out = Cow::Owned(pattern.replace_all(&out, rule.with).into_owned());
        }
    }
    out
}

/// Whether a terminal would obey the character, or show the following text in a different order.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text with such characters escaped, as `\x1b`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            c if is_unsafe(c) && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_unsafe(c) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The text in the form that people may see.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    match without_secrets(text) {
        Cow::Borrowed(text) => printable(text),
        Cow::Owned(text) => Cow::Owned(printable(&text).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: &str = "hUnT3r2/x+y=Z9";

    #[test]
    fn a_secret_shows_in_no_place_of_a_text() {
        for with in [
            "s4://key:{}@bucket/x/",
            "s3:/key:{}@bucket/x",
            "key:{}@bucket",
            "https://user:{}@host/x and more",
            "Error performing PROPFIND https://user:{}@host/a?b in 3 s",
            "s3://{}@bucket/x",
            "abfss://container:{}@account.dfs.core.windows.net/x",
            "https://host/x?sig={}&sv=2024",
            "https://host/x?se=1&X-Amz-Signature={}",
            "https://host/x?X-Goog-Credential={}#x",
            "https://host/x#access_token={}",
            "DefaultEndpointsProtocol=https;AccountName=me;AccountKey={};EndpointSuffix=core.windows.net",
            "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey={}",
            "aws_secret_access_key={}",
            "AWS_SESSION_TOKEN = {}",
            "azure_storage_account_key='{}'",
            "{\"client_secret\": \"{}\", \"a\": 1}",
            "{'password': '{}'}",
            "password={}",
            "sasl.password={}",
            "sv=2024&sig={}",
            "authorization: Bearer {}",
            "<Error><SignatureProvided>{}</SignatureProvided></Error>",
        ] {
            let text = with.replace("{}", PLANTED);
            let shown = clean(&text);
            assert!(!shown.contains(PLANTED) && !shown.contains("hUnT3r2"), "{text} -> {shown}");
            assert!(shown.contains(HIDDEN), "{shown}");
            assert_eq!(clean(&shown), shown, "cleaned once is clean");
        }
        assert_eq!(clean("key AKIAIOSFODNN7EXAMPLE is unknown"), "key *** is unknown");
    }

    #[test]
    fn a_value_that_was_learnt_is_cut_out_wherever_it_stands() {
        learn_secret("p1a,nted;sec/ret");
        learn_url("s9://me:pl,anted2@bucket/x?sig=pla%2Fnted3x&region=eu-central-1x");
        for text in ["at p1a,nted;sec/ret!", "at p1a%2Cnted%3Bsec%2Fret", "x pl,anted2 y", "x pla/nted3x y"] {
            assert!(clean(text).contains(HIDDEN) && !clean(text).contains("nted"), "{}", clean(text));
        }
        assert_eq!(clean("in eu-central-1x"), "in eu-central-1x");
    }

    #[test]
    fn tokens_that_pass_push_no_secret_out() {
        learn_secret("the password of the broker");
        for i in 0..MOST {
            learn_passing_secret(&format!("passing-token-{i:08}"));
        }
        assert_eq!(clean("the password of the broker"), HIDDEN);
        assert_eq!(clean(&format!("at passing-token-{:08}", MOST - 1)), format!("at {HIDDEN}"));
        assert!(PASSING.read().len() <= MOST / 8);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "field 'a': a quoted value does not fit INT (byte 5)",
            "say timestamp_unit=\"s\" or dialect=\"datafusion\", key=\"ip\"",
            "abfss://container@account.dfs.core.windows.net/lake/t/",
            "Check security.protocol, sasl.mechanism, sasl.username, sasl.password and ssl.ca.location.",
            "Kafka at host:9092 cannot be reached: host:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed",
            "column 'x' is DECIMAL(5,2): at 12:30, a@b",
            "s3://bucket/lake/t/_delta_log/00000000000000000001.json",
            "the key of partition 3: 7 = 8",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(clean("a\x1b[31mred\x07\r\u{9b}x\u{202e}z\u{7f}"), "a\\x1b[31mred\\x07\\r\\x9bx\\u202ez\\x7f");
        assert_eq!(clean("two\nlines\tand ü 日本"), "two\nlines\tand ü 日本");
    }
}
