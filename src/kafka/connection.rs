//! The address of a Kafka cluster, and the secrets to connect to it.

use super::{
    context::{NO_ANSWER, Seen, Watch},
    embedded,
    properties::{Secrets, check, client_config, is_safe},
    token::{TokenSource, Tokens, unsecured},
};
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    metadata::Metadata,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// The target that was given to `connect`.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// "host:9092", or several addresses separated by commas.
    Address(String),
    /// librdkafka properties, with librdkafka's names.
    Properties(BTreeMap<String, String>),
    /// The embedded broker of this user, one for each name.
    Embedded { name: String },
}

/// A cluster that has answered. Cheap to clone. It shows no secrets.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    address: String,
    properties: BTreeMap<String, String>,
    secrets: Secrets,
    embedded: Option<embedded::Client>,
    /// For metadata and offsets. It has no group, so it closes without waiting.
    client: Arc<BaseConsumer<Watch>>,
    /// Producers of earlier calls.
    producers: super::produce::Producers,
    tokens: Option<Arc<Tokens>>,
    cluster_id: OnceLock<String>,
    pid: u32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // In the child of a fork, the client's threads do not exist. Closing the client would wait for them forever.
        if std::process::id() != self.pid {
            let _never_closed = std::mem::ManuallyDrop::new(self.client.clone());
            self.producers.leave_alone();
        }
    }
}

/// How long bayou waits for the first answer of a cluster.
const REACH: Duration = Duration::from_millis(9_000);
/// The longest time that `open` takes. The time after REACH is for finding the reason.
const OPEN: Duration = Duration::from_millis(9_700);
/// How long bayou waits if every broker has refused the connection. (A broker that has only not answered yet gets more
/// time.) Waiting longer would be of little use.
const REFUSED: Duration = Duration::from_millis(2_500);
/// The timeout of a single request to a cluster that has answered before.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// Properties that bayou sets and that have two names: (the name that bayou uses, the other name).
const ALIASES: &[(&str, &str)] = &[
    ("acks", "request.required.acks"),
    ("compression.type", "compression.codec"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("message.timeout.ms", "delivery.timeout.ms"),
];

impl Connection {
    /// Checks the properties, and that the cluster answers within 10 seconds.
    pub fn open(target: Target) -> Result<Self> {
        Self::open_with(target, None)
    }

    /// `tokens`: for SASL OAUTHBEARER.
    pub fn open_with(target: Target, tokens: Option<Arc<dyn TokenSource>>) -> Result<Self> {
        let (mut properties, embedded) = match target {
            Target::Address(address) => {
                let address = address.trim();
                if address.is_empty() {
                    return Err(Error::config(
                        "connect was given an empty address. Give \"host:port\", or no argument for the embedded \
                         broker. An unset variable never means the embedded broker.",
                    ));
                }
                let properties = BTreeMap::from([("bootstrap.servers".to_string(), address.to_string())]);
                check(&properties)?;
                (properties, None)
            }
            Target::Properties(properties) => {
                check(&properties)?;
                (properties, None)
            }
            Target::Embedded { name } => {
                let client = embedded::Client::join(&name)?;
                (client.properties(), Some(client))
            }
        };
        let address = ["bootstrap.servers", "metadata.broker.list"]
            .iter()
            .find_map(|k| properties.get(*k))
            .map(|a| hide_user(a.trim()))
            .unwrap_or_default();
        check_address(&address)?;
        let secrets = Secrets::of(&properties);
        let tokens = tokens.or_else(|| unsecured(&properties)).map(|source| Arc::new(Tokens::new(source)));
        if tokens.is_some() {
            // librdkafka would want to make the tokens itself.
            properties.remove("enable.sasl.oauthbearer.unsecure.jwt");
        }
        let began = Instant::now();
        if embedded.is_none() {
            super::probe::check(&properties, &address)?;
        }
        let reach = REACH.saturating_sub(began.elapsed());
        // librdkafka gives up on a connection before bayou gives up on the cluster, and says why.
        let setup = reach.saturating_sub(Duration::from_secs(1)).as_millis().to_string();
        let client: BaseConsumer<Watch> =
            client_config(&metadata_properties(&properties), &[("socket.connection.setup.timeout.ms", &setup)])
                .create_with_context(Watch::new(secrets.clone(), tokens.clone()))
                .map_err(|e| {
                    Error::config(format!(
                        "Kafka at {address}: librdkafka refuses the properties: {}",
                        secrets.scrub(&e.to_string())
                    ))
                })?;
        let inner = Inner {
            address,
            properties,
            secrets,
            embedded,
            client: Arc::new(client),
            producers: super::produce::Producers::default(),
            tokens,
            cluster_id: OnceLock::new(),
            pid: std::process::id(),
        };
        let connection = Self(Arc::new(inner));
        match connection.metadata_within(reach) {
            Err(e) if e.kind == Kind::Connection && e.message.contains(NO_ANSWER) => {
                let left = OPEN.saturating_sub(began.elapsed());
                Err(super::probe::may_want_sasl(&connection.0.properties, &connection.0.address, left).unwrap_or(e))
            }
            answer => answer.map(|_| connection),
        }
    }

    /// The id of the cluster. An embedded broker gets its own id, so that a checkpoint notices when the broker is gone.
    pub fn cluster_id(&self) -> Result<String> {
        self.check_fork()?;
        if let Some(broker) = &self.0.embedded {
            return Ok(broker.id().to_string());
        }
        if let Some(id) = self.0.cluster_id.get() {
            return Ok(id.clone());
        }
        let id = self.0.client.client().fetch_cluster_id(REQUEST).filter(|id| !id.is_empty());
        // Some brokers that only implement Kafka's protocol do not have an id. The address then identifies them.
        let id = id.unwrap_or_else(|| format!("unnamed:{}", self.0.address));
        Ok(self.0.cluster_id.get_or_init(|| id).clone())
    }

    pub fn address(&self) -> &str {
        &self.0.address
    }

    pub fn is_embedded(&self) -> bool {
        self.0.embedded.is_some()
    }

    /// The parts that may be shown: the address and the kind of security, never a secret.
    pub fn describe(&self) -> String {
        if let Some(broker) = &self.0.embedded {
            return format!(
                "embedded broker '{}' at {} (in memory; it ends with its last kernel)",
                broker.name(),
                self.0.address
            );
        }
        let safe = self.safe_properties();
        let how: Vec<&str> = ["security.protocol", "sasl.mechanism", "sasl.mechanisms"]
            .iter()
            .filter_map(|k| safe.get(*k).map(String::as_str))
            .collect();
        let how = if how.is_empty() { String::new() } else { format!(" ({})", how.join(", ")) };
        format!("Kafka at {}{how}", self.0.address)
    }

    /// Only properties that are known to be safe are shown.
    pub fn safe_properties(&self) -> BTreeMap<String, String> {
        let safe = self.0.properties.iter().filter(|(name, _)| is_safe(name));
        safe.map(|(name, value)| (name.clone(), hide_user(value))).collect()
    }

    /// A hash of the target, including the secrets. Two connections with the same hash read the same cluster.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(broker) = &self.0.embedded {
            hash.update(broker.id());
        }
        for (name, value) in &self.0.properties {
            // The lengths keep two different targets from giving the same bytes.
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((value.len() as u64).to_le_bytes());
            hash.update(value);
        }
        hex(hash.finalize(), 32)
    }

    /// librdkafka's threads do not survive a fork: an error is better than a hang.
    pub fn check_fork(&self) -> Result<()> {
        if std::process::id() == self.0.pid {
            return Ok(());
        }
        Err(Error::connection(format!(
            "the connection to {} was made before this process was forked and cannot be used in it. Call bayou.connect again in \
             the child process (multiprocessing: use the \"spawn\" start method).",
            self.0.address
        )))
    }

    /// Returns an error if this is an embedded broker that has ended. It cannot come back, so the caller must not wait
    /// for it.
    pub fn check_alive(&self) -> Result<()> {
        self.0.embedded.as_ref().map_or(Ok(()), embedded::Client::check_alive)
    }

    /// A directory that exists as long as the embedded broker.
    pub fn scratch_dir(&self) -> Result<PathBuf> {
        match &self.0.embedded {
            Some(broker) => Ok(broker.scratch_dir().to_path_buf()),
            None => Err(Error::config(format!(
                "scratch_dir exists only for the embedded broker, and {} is a real one. Give a path of your own.",
                self.describe()
            ))),
        }
    }

    /// librdkafka properties with which a different client (confluent-kafka) connects to the embedded broker, including
    /// its secret.
    pub fn client_properties(&self) -> Result<BTreeMap<String, String>> {
        match &self.0.embedded {
            Some(broker) => Ok(broker.properties()),
            None => Err(Error::config(format!(
                "client_properties exists only for the embedded broker, and {} is a real one. Its secrets are not given out.",
                self.describe()
            ))),
        }
    }

    pub(super) fn embedded(&self) -> Option<&embedded::Client> {
        self.0.embedded.as_ref()
    }

    pub(super) fn client(&self) -> &BaseConsumer<Watch> {
        &self.0.client
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    /// A context for one more client of this connection.
    pub(super) fn producers(&self) -> &super::produce::Producers {
        &self.0.producers
    }

    pub(super) fn tokens(&self) -> Option<Arc<Tokens>> {
        self.0.tokens.clone()
    }

    pub(super) fn watch(&self) -> Watch {
        Watch::new(self.0.secrets.clone(), self.0.tokens.clone())
    }

    pub(super) fn config(&self, over: &[(&str, &str)]) -> ClientConfig {
        client_config(&self.0.properties, over)
    }

    /// `config`, with `defaults` for the properties that the user has not set.
    pub(super) fn config_with_defaults(&self, defaults: &[(&str, &str)], over: &[(&str, &str)]) -> ClientConfig {
        let mut properties = self.0.properties.clone();
        for (name, value) in defaults {
            // librdkafka knows some properties by two names. The user's value counts under both.
            let given =
                ALIASES.iter().any(|(a, b)| a == name && properties.contains_key(*b)) || properties.contains_key(*name);
            if !given {
                properties.insert(name.to_string(), value.to_string());
            }
        }
        for (name, _) in over {
            for (a, b) in ALIASES {
                if a == name {
                    properties.remove(*b);
                }
            }
        }
        client_config(&properties, over)
    }

    /// Whether the user has given the property this value.
    pub fn has_property(&self, name: &str, value: &str) -> bool {
        let other = ALIASES.iter().find_map(|(a, b)| if *a == name { Some(*b) } else { (*b == name).then_some(*a) });
        let found = self.0.properties.get(name).or_else(|| self.0.properties.get(other?));
        found.is_some_and(|v| v == value || is_safe(name) && v.eq_ignore_ascii_case(value))
    }

    /// The user's value under one of these names.
    pub(super) fn property(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.0.properties.get(*name)).map(String::as_str)
    }

    /// All topics that these credentials may see. A single topic is also looked up here, because asking for it by name
    /// can create it.
    pub(super) fn metadata(&self) -> Result<Metadata> {
        self.check_fork()?;
        self.metadata_within(REACH)
    }

    fn metadata_within(&self, limit: Duration) -> Result<Metadata> {
        let client = &self.0.client;
        // Events from before this call, for example of an outage that is over, say nothing about this call.
        drain(client);
        client.context().forget();
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let answer = client.fetch_metadata(None, left.min(Duration::from_millis(500)));
            let error = match answer {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            // Error events stay in the client's queue until it is polled.
            drain(client);
            let seen: Seen = client.context().seen();
            let refused = seen.all_down && start.elapsed() >= REFUSED;
            if seen.auth.is_some() || refused || start.elapsed() + Duration::from_millis(50) >= limit {
                let error_text = self.0.secrets.scrub(&error.to_string());
                log::debug!(target: "bayou::kafka", "no metadata from {}: {error_text}", self.0.address);
                if let Some(broker) = &self.0.embedded {
                    return Err(broker.gone());
                }
                return Err(seen.unreachable(&self.0.address));
            }
            if left.is_zero() {
                continue;
            }
            // A refusal comes back at once: wait, so that this is not a busy loop.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Takes all events from a client's queue. `poll` returns None also for an event that was dealt with; only an empty queue makes it wait.
pub(super) fn drain(client: &BaseConsumer<Watch>) {
    const EMPTY: Duration = Duration::from_millis(2);
    for _ in 0..1000 {
        let asked = Instant::now();
        if client.poll(EMPTY).is_none() && asked.elapsed() >= EMPTY {
            return;
        }
    }
}

/// The metadata client reads no messages. Properties that only concern reading and writing would make it log warnings.
fn metadata_properties(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut properties = properties.clone();
    for of_groups in ["group.id", "group.instance.id", "partition.assignment.strategy"] {
        properties.remove(of_groups);
    }
    // librdkafka asks the same broker again until it knows that the broker is gone. For a broker that hangs, this
    // timeout decides. The default is a minute, which is longer than any wait in this file.
    properties.entry("socket.timeout.ms".into()).or_insert_with(|| "4000".into());
    properties
}

/// librdkafka removes addresses that it cannot read from the list, and then waits for no broker. Report a wrong address
/// at once.
fn check_address(address: &str) -> Result<()> {
    for broker in address.split(',').map(str::trim) {
        let wrong = |why: &str| {
            Err(Error::connection(format!(
                "'{broker}' is not a Kafka address: {why}. Write \"host:port\", and separate several with commas."
            )))
        };
        let rest = match broker.split_once("://") {
            None => broker,
            Some((scheme, rest)) => {
                let known = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
                if !known.contains(&scheme.to_lowercase().as_str()) {
                    return wrong(&format!("Kafka does not use {scheme}://"));
                }
                rest
            }
        };
        // Square brackets contain an IPv6 address.
        let (host, port) = match rest.rfind(']') {
            Some(end) => (&rest[..=end], rest[end + 1..].strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if broker.contains('@') {
            return wrong("it contains a user or a password, which belong in sasl.username and sasl.password");
        }
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/;?#".contains(c)) {
            return wrong("the host name is missing or has invalid characters");
        }
        if port.is_some_and(|p| !p.parse::<u16>().is_ok_and(|p| p > 0)) {
            return wrong("the port must be a number from 1 to 65535");
        }
    }
    Ok(())
}

/// "user:password@host:9092" is not an address of Kafka, but people paste it. It is refused without being shown. A
/// password can contain commas, so everything before the last @ is hidden.
fn hide_user(address: &str) -> String {
    match address.rfind('@') {
        Some(at) => format!("***{}", &address[at..]),
        None => address.split(',').map(str::trim).collect::<Vec<_>>().join(","),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.describe())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => write!(f, "Address({})", hide_user(address)),
            Target::Properties(properties) => {
                let names: Vec<_> = properties.keys().collect();
                write!(f, "Properties({names:?})")
            }
            Target::Embedded { name } => write!(f, "Embedded({name})"),
        }
    }
}
