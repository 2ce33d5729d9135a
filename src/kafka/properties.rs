//! librdkafka properties: which ones bayou sets itself, and which ones may be shown.

use crate::error::{Error, Result, did_you_mean};
use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError, types::RDKafkaConfRes};
use std::collections::BTreeMap;

/// Properties on which bayou's promises depend, each with advice for the user who sets it.
const OWNED: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "bayou never creates a topic by accident. Use create_topic"),
    ("auto.commit.enable", "positions are kept in the query's checkpoint"),
    ("auto.commit.interval.ms", "positions are kept in the query's checkpoint"),
    ("auto.offset.reset", "use starting_offsets, and fail_on_data_loss for lost offsets"),
    ("check.crcs", "checksums are always verified"),
    ("delivery.report.only.error", "produce returns a report of what was delivered"),
    ("enable.auto.commit", "positions are kept in the query's checkpoint"),
    ("enable.auto.offset.store", "positions are kept in the query's checkpoint"),
    ("enable.idempotence", "produce is idempotent unless acks says otherwise"),
    ("enable.partition.eof", "bounded runs need it"),
    (
        "group.protocol",
        "bayou assigns the partitions of queries itself, and batches(group_id=) uses the classic protocol",
    ),
    ("isolation.level", "only committed messages are read"),
    ("log.queue", "bayou reads librdkafka's logs itself, and its errors contain what a broker reports"),
    ("log_level", "bayou reads librdkafka's logs itself, and its errors contain what a broker reports"),
    ("plugin.library.paths", "bayou does not load foreign code"),
    ("test.mock.num.brokers", "use bayou.connect() without an argument for a broker in memory"),
    ("transactional.id", "use produce(transaction=True, transactional_id=…)"),
];

/// Names from other clients, and what to write instead.
const FOREIGN: &[(&str, &str)] = &[
    ("sasl.jaas.config", "use sasl.username and sasl.password"),
    ("ssl.truststore.location", "use a PEM file in ssl.ca.location"),
    ("ssl.truststore.password", "use a PEM file in ssl.ca.location"),
    ("bootstrap_servers", "use bootstrap.servers"),
    ("key.deserializer", "bayou decodes messages itself; use read_stream(format=…)"),
    ("value.deserializer", "bayou decodes messages itself; use read_stream(format=…)"),
    ("key.serializer", "produce writes JSON itself"),
    ("value.serializer", "produce writes JSON itself"),
];

/// Properties that may be shown. This is a list of safe ones, because the list of secret ones grows with librdkafka.
const SAFE: &[&str] = &[
    "acks",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "broker.address.family",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "delivery.timeout.ms",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "linger.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "metadata.max.age.ms",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "retry.backoff.ms",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.endpoint.identification.algorithm",
];

/// The reason why a property must not be set, or the name to use instead.
pub(crate) fn advice(name: &str) -> Option<String> {
    let owned = OWNED.iter().find(|(n, _)| *n == name).map(|(_, why)| format!("{why}. Leave it out"));
    let foreign = || FOREIGN.iter().find(|(n, _)| *n == name);
    let user = "bayou.connect({\"sasl.username\": …, \"sasl.password\": …})";
    owned.or_else(|| {
        foreign().map(|(_, instead)| match name {
            "sasl.jaas.config" => format!("the user and password in it are properties of the connection: {user}"),
            _ => (*instead).to_string(),
        })
    })
}

pub(super) fn is_safe(name: &str) -> bool {
    SAFE.contains(&name)
}

/// Checks names and values with librdkafka. Refuses properties that bayou sets itself.
pub(super) fn check(properties: &BTreeMap<String, String>) -> Result<()> {
    if properties.is_empty() {
        return Err(Error::config(
            "connect was given no properties. Give at least \"bootstrap.servers\", or no argument for the embedded \
             broker. An unset variable never means the embedded broker.",
        ));
    }
    for (name, value) in properties {
        if let Some((_, why)) = OWNED.iter().find(|(owned, _)| owned == name) {
            return Err(Error::config(format!("'{name}' cannot be set: {why}. Leave it out.")));
        }
        if let Some((_, instead)) = FOREIGN.iter().find(|(foreign, _)| foreign == name) {
            return Err(Error::config(format!("'{name}' is not a librdkafka property: {instead}")));
        }
        if let Some(bare) = name.strip_prefix("kafka.") {
            return Err(Error::config(format!(
                "'{name}' is Spark's spelling. Here it is '{bare}'. Spark's options belong in connect(options=…) and read_stream(options=…)."
            )));
        }
        check_one(name, value)?;
    }
    let servers = ["bootstrap.servers", "metadata.broker.list"].iter().find_map(|k| properties.get(*k));
    if servers.is_none_or(|s| s.trim().is_empty()) {
        return Err(Error::config("'bootstrap.servers' is missing or empty. Give the broker's \"host:port\"."));
    }
    Ok(())
}

fn check_one(name: &str, value: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Err(Error::config(format!(
            "librdkafka does not have a property '{name}'.{}",
            did_you_mean(name, SAFE.iter().copied().chain(["sasl.username", "sasl.password", "ssl.key.location"]))
        ))),
        // librdkafka's text repeats the value. It is used only for properties whose values may be shown.
        Err(KafkaError::ClientConfig(_, text, ..)) if is_safe(name) => Err(Error::config(text)),
        Err(_) => Err(Error::config(format!("librdkafka does not accept the value of '{name}' (not shown)"))),
    }
}

/// A configuration with `over` on top. Of librdkafka's own log lines, only warnings are kept.
pub(super) fn client_config(properties: &BTreeMap<String, String>, over: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    for (name, value) in over {
        config.set(*name, *value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Values that must never be shown. They are cut out of librdkafka's texts.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn of(properties: &BTreeMap<String, String>) -> Self {
        // Shorter values ("", "true", a port) would cut ordinary words apart.
        let hidden = properties.iter().filter(|(name, value)| !is_safe(name) && value.len() >= 5);
        // Texts from other places than librdkafka can contain these values, too.
        let secret = hidden.clone().filter(|(name, _)| crate::error::is_secret_name(name) || name.ends_with(".pem"));
        secret.for_each(|(_, value)| crate::error::learn_secret(value));
        let mut values: Vec<String> = hidden.map(|(_, v)| v.clone()).collect();
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        Self(values)
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn properties_that_bayou_owns_are_refused_by_name() {
        for (owned, _) in OWNED {
            let e = check(&properties(&[("bootstrap.servers", "h:1"), (owned, "x")])).unwrap_err();
            assert_eq!(e.kind, crate::Kind::Config);
            assert!(e.message.contains(owned), "{e}");
        }
    }

    #[test]
    fn a_misspelt_property_gets_the_nearest_name() {
        let e = check(&properties(&[("bootstrap.servers", "h:1"), ("security.protcol", "ssl")])).unwrap_err();
        assert!(e.message.contains("Did you mean 'security.protocol'?"), "{e}");
    }

    #[test]
    fn a_refused_value_is_shown_only_where_it_cannot_be_a_secret() {
        let e = check(&properties(&[("bootstrap.servers", "h:1"), ("security.protocol", "SALS_SSL")])).unwrap_err();
        assert!(e.message.contains("SALS_SSL"), "{e}");
        let e = check(&properties(&[("bootstrap.servers", "h:1"), ("sasl.oauthbearer.method", "hunter2hunter2")]))
            .unwrap_err();
        assert!(!e.message.contains("hunter2"), "{e}");
    }

    #[test]
    fn an_empty_target_is_never_the_embedded_broker() {
        assert!(check(&properties(&[])).unwrap_err().message.contains("embedded"));
        assert!(check(&properties(&[("bootstrap.servers", " ")])).is_err());
        assert!(check(&properties(&[("client.id", "x")])).is_err());
    }

    #[test]
    fn secrets_are_cut_out_of_texts() {
        let secrets = Secrets::of(&properties(&[("sasl.password", "hunter2!"), ("client.id", "notebook")]));
        assert_eq!(secrets.scrub("login as notebook with hunter2! failed"), "login as notebook with *** failed");
    }
}
