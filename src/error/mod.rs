//! One error for the whole crate. The kind says what the caller can do; the message says what happened, where, and what to do.

mod clean;
mod place;

pub(crate) use clean::{clean, is_secret_name, learn_passing_secret, learn_secret, learn_url, printable};
pub(crate) use place::{LostOffsets, Place};

use std::fmt;
use std::sync::Arc;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of errors, by what the caller can do. Each kind is one Python exception class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The broker cannot be reached.
    Connection,
    /// The broker or the store refused the credentials.
    Auth,
    /// The credentials are valid, but do not allow this.
    Acl,
    /// The topic does not exist, or is not what the query expects.
    Topic,
    /// A schema, a column or an expression does not fit.
    Schema,
    /// A message or a row could not be decoded or computed.
    Malformed,
    /// A data-quality rule failed.
    Expectation,
    /// Offsets that must be read do not exist any more.
    DataLoss,
    /// A different runner has this query.
    ConcurrentQuery,
    /// Reading or writing files failed.
    Storage,
    /// An option is wrong.
    Config,
    /// A function of the user failed.
    Function,
    /// The user pressed stop.
    Interrupted,
    /// A fault of bayou itself.
    Internal,
}

pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// Shared, because a query returns its error as often as it is asked.
    pub source: Option<Source>,
    /// None for most errors: the code that makes them knows no more than the message says.
    pub place: Option<Box<Place>>,
}

/// The error that caused this one.
pub(crate) type Source = Arc<dyn std::error::Error + Send + Sync>;

/// A text without credentials and without control characters for terminals. Most texts are clean already.
fn shown(text: String) -> String {
    match clean(&text) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(cleaned) => cleaned,
    }
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: shown(message.into()), source: None, place: None }
    }

    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// An error about rows. If a user's function raised the exception `cause`, the function is at fault, and otherwise it is `kind`.
    pub fn blaming(cause: Option<Source>, kind: Kind, message: impl Into<String>) -> Self {
        let kind = if cause.is_some() { Kind::Function } else { kind };
        Self { source: cause, ..Self::new(kind, message) }
    }

    /// Adds the place of the error in front of the message.
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = shown(format!("{place}: {}", self.message));
        self
    }
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error { $(pub fn $name(message: impl Into<String>) -> Self { Self::new(Kind::$kind, message) })* }
    };
}
constructors! {
    connection => Connection, auth => Auth, acl => Acl, topic => Topic, schema => Schema, malformed => Malformed,
    expectation => Expectation, data_loss => DataLoss, concurrent_query => ConcurrentQuery, storage => Storage,
    config => Config, function => Function, interrupted => Interrupted, internal => Internal,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if let Some(source) = &self.source {
            write!(f, " (from: {})", clean(&source.to_string()))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::internal(format!("Arrow: {e}")).with_source(e)
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(e: datafusion::error::DataFusionError) -> Self {
        let e = e.find_root().to_string();
        Self::internal(format!("DataFusion: {e}"))
    }
}

/// Like `did_you_mean`, but only for names that look misspelt. Use it if most unknown names are names from other
/// systems.
pub(crate) fn near_miss<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let wanted = wanted.to_lowercase();
    let bare = |text: &str| text.to_lowercase().replace('_', "");
    let most = if wanted.len() < 5 { 1 } else { wanted.len() / 4 };
    let mistyped = |c: &str| {
        let distance = strsim::damerau_levenshtein(&wanted, &c.to_lowercase());
        // A different letter in a word of three letters makes a different word. Two swapped letters are a misspelling.
        let swapped = wanted.len() == c.len() && strsim::levenshtein(&wanted, &c.to_lowercase()) == 2 && distance == 1;
        (bare(c) == bare(&wanted) || swapped || wanted.len() > 3 && distance <= most).then_some(distance)
    };
    let nearest = candidates.into_iter().filter_map(|c| Some((mistyped(c)?, c))).min_by_key(|(distance, _)| *distance);
    nearest.map(|(_, c)| format!(" Did you mean '{c}'?")).unwrap_or_default()
}

/// " Did you mean 'x'?" for the candidate nearest to `wanted`, or an empty text.
pub(crate) fn did_you_mean<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let wanted_lower = wanted.to_lowercase();
    let score = |c: &str| {
        let c = c.to_lowercase();
        // For Jaro-Winkler, short names with two swapped letters ("bmp") are far apart.
        let swapped = strsim::damerau_levenshtein(&wanted_lower, &c) == 1 && c.len() > 1;
        strsim::jaro_winkler(&wanted_lower, &c) + if swapped { 0.5 } else { 0.0 }
    };
    candidates
        .into_iter()
        .map(|c| (score(c), c))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| format!(" Did you mean '{c}'?"))
        .unwrap_or_default()
}
