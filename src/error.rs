//! One error for the whole crate. The kind says what the caller can do; the message says what happened, where, and what to do.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it. Each kind is one Python exception class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The broker cannot be reached.
    Connection,
    /// The broker or the store refused the credentials.
    Auth,
    /// The credentials are good but not allowed to do this.
    Acl,
    /// The topic does not exist, or is not what the query expects.
    Topic,
    /// A schema, a column or an expression does not fit.
    Schema,
    /// A message or a row could not be decoded or computed.
    Malformed,
    /// A data-quality rule failed.
    Expectation,
    /// Offsets that were to be read are gone.
    DataLoss,
    /// Another runner has this query.
    ConcurrentQuery,
    /// Reading or writing files failed.
    Storage,
    /// An option is wrong.
    Config,
    /// The user pressed stop.
    Interrupted,
    /// A fault of bayou itself.
    Internal,
}

pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts where it happened before what happened.
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
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
    config => Config, interrupted => Interrupted, internal => Internal,
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
            write!(f, " (from: {source})")?;
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

/// " Did you mean 'x'?" for the candidate nearest to `wanted`, or nothing.
pub fn did_you_mean<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let wanted_lower = wanted.to_lowercase();
    let score = |c: &str| {
        let c = c.to_lowercase();
        // Short names with two letters swapped ("bmp") look far apart to Jaro-Winkler.
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
