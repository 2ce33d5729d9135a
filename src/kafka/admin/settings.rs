//! The cluster, and settings of topics and brokers; more partitions; deleting the oldest messages.

use super::{Connection, REQUEST, options};
use crate::error::{Error, Result};
use crate::kafka::context::failed;
use crate::kafka::ffi::cluster::{self, Broker};
use crate::position::{Offset, Topic, TopicPartition};
use rdkafka::admin::NewPartitions;
use rdkafka::bindings::rd_kafka_ConfigSource_t as Source;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset as NativeOffset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A thing that has settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    Topic(String),
    Broker(i32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    /// None for a secret.
    pub value: Option<String>,
    /// "topic", "broker" (changed while it runs), "cluster" (of all brokers), "file" (server.properties), "default".
    pub source: &'static str,
    pub is_default: bool,
    pub is_sensitive: bool,
    pub is_read_only: bool,
}

impl Connection {
    pub fn brokers(&self) -> Result<Vec<Broker>> {
        self.real("describe its brokers")?;
        let mut found = self.ask(&format!("describing the cluster at {}", self.address()), cluster::describe)?;
        found.sort_by_key(|b| b.id);
        Ok(found)
    }

    /// The release of a broker, such as "4.0". None for a broker with TLS, which does not answer before the TLS handshake.
    pub fn broker_version(&self, broker: &Broker) -> Option<String> {
        let plain = self.property(&["security.protocol"]).is_none_or(|p| p.to_lowercase().ends_with("plaintext"));
        plain.then(|| crate::kafka::probe::release(&broker.host, broker.port)).flatten()
    }

    /// All settings of a topic or broker.
    pub fn settings(&self, of: &Configured) -> Result<Vec<Setting>> {
        self.real("describe settings")?;
        let (place, name) = match of {
            Configured::Topic(name) => {
                // If the topic does not exist, the error names the nearest name.
                self.partitions(&Topic::new(name))?;
                (format!("topic '{name}'"), name.clone())
            }
            Configured::Broker(id) => {
                if !self.brokers()?.iter().any(|b| b.id == *id) {
                    return Err(Error::config(format!("{} has no broker {id}. cluster() lists them.", self.address())));
                }
                (format!("broker {id}"), id.to_string())
            }
        };
        let what = format!("describing {place} on {}", self.address());
        let of_broker = matches!(of, Configured::Broker(_));
        let found = self.answered(|client, timeout| cluster::settings(client, of_broker, &name, timeout))?;
        let found = found.map_err(|f| match f.code {
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                let on = if of_broker { "the cluster" } else { "the topic" };
                failed(&what, f.code, &format!("DESCRIBE_CONFIGS on {on} is missing"))
            }
            _ => self.failure(&what, &f),
        })?;
        let mut settings: Vec<_> = found
            .into_iter()
            .map(|e| Setting {
                source: match e.source {
                    Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG => "topic",
                    Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG => "broker",
                    Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG => "cluster",
                    Source::RD_KAFKA_CONFIG_SOURCE_STATIC_BROKER_CONFIG => "file",
                    _ => "default",
                },
                value: e.value.filter(|_| !e.is_sensitive),
                name: e.name,
                is_default: e.is_default,
                is_sensitive: e.is_sensitive,
                is_read_only: e.is_read_only,
            })
            .collect();
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(settings)
    }

    /// Sets settings of a topic, and leaves the others as they are. None: back to the default.
    pub fn alter_config(&self, topic: &str, settings: &BTreeMap<String, Option<String>>) -> Result<()> {
        self.real("configure topics")?;
        if settings.is_empty() {
            return Err(Error::config("alter_config needs a setting: {\"retention.ms\": \"86400000\"}"));
        }
        let known = self.settings(&Configured::Topic(topic.into()))?;
        for name in settings.keys() {
            if !known.is_empty() && !known.iter().any(|s| s.name == *name) {
                return Err(Error::config(format!(
                    "topics have no setting '{name}'.{} describe_config(\"{topic}\") lists them.",
                    crate::error::did_you_mean(name, known.iter().map(|s| s.name.as_str()))
                )));
            }
        }
        let list: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
        let what = format!("changing topic '{topic}' on {}", self.address());
        self.ask(&what, |client, timeout| cluster::alter_config(client, topic, &list, timeout))
            .map_err(|e| e.in_topic(topic))?;
        // Each broker learns of the change a moment later, and the next line of a notebook may ask any of them.
        let start = Instant::now();
        let is_there = |all: &[Setting]| {
            settings.iter().all(|(name, value)| {
                let set = all.iter().find(|s| s.name == *name && s.source == "topic");
                value.is_some() == set.is_some()
                    && (value.is_none() || set.is_some_and(|s| s.is_sensitive || s.value == *value))
            })
        };
        while start.elapsed() < Duration::from_secs(2) && !is_there(&self.settings(&Configured::Topic(topic.into()))?) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Raises the number of a topic's partitions.
    pub fn create_partitions(&self, topic: &str, total: usize) -> Result<()> {
        let there = self.partitions(&Topic::new(topic))?.len();
        self.real("add partitions")?;
        if total == there {
            return Ok(());
        }
        if total < there {
            return Err(Error::topic(format!(
                "topic '{topic}' has {there} partitions, and Kafka cannot take partitions away. total= must be at least {there}."
            ))
            .in_topic(topic));
        }
        let what = format!("adding partitions to topic '{topic}' on {}", self.address());
        let admin = self.admin(&what)?;
        let options = options();
        let new = NewPartitions::new(topic, total);
        let result = futures::executor::block_on(admin.create_partitions([&new], &options));
        if let Some(Err((_, code))) = result.map_err(|e| self.error(&what, &e))?.into_iter().next() {
            return Err(failed(&what, code, &code.to_string()).in_topic(topic));
        }
        let start = Instant::now();
        while self.partitions(&Topic::new(topic))?.len() < total {
            if start.elapsed() >= REQUEST {
                return Err(Error::connection(format!(
                    "{what}: accepted, but not finished yet. Wait, and look again."
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.wait_until_known(topic)
    }

    /// Deletes the messages before these offsets. Returns each partition's earliest offset now.
    pub fn delete_records(
        &self,
        topic: &str,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.real("delete messages")?;
        let what = format!("deleting messages of topic '{topic}' on {}", self.address());
        let mut list = TopicPartitionList::new();
        for (tp, offset) in before {
            list.add_partition_offset(tp.topic.as_str(), tp.partition.0, NativeOffset::Offset(offset.0))
                .map_err(|e| self.error(&what, &e))?;
        }
        let admin = self.admin(&what)?;
        let options = options();
        let answer =
            futures::executor::block_on(admin.delete_records(&list, &options)).map_err(|e| self.error(&what, &e))?;
        let mut out = BTreeMap::new();
        for e in answer.elements() {
            let tp = TopicPartition::new(e.topic(), e.partition());
            if let Err(error) = e.error() {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let text = match code {
                    Code::PolicyViolation => {
                        "the topic is compacted: its cleanup.policy is without \"delete\"".to_string()
                    }
                    _ => code.to_string(),
                };
                return Err(failed(&format!("{what}, {tp}"), code, &text).in_partition(topic, tp.partition.0));
            }
            if let NativeOffset::Offset(earliest) = e.offset() {
                out.insert(tp, Offset(earliest));
            }
        }
        Ok(out)
    }
}
