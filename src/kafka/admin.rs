//! Topics: list, create, describe, delete; partitions and offsets.

use super::{
    Connection,
    connection::REQUEST,
    context::failed,
    ffi::{self, Failure},
};
use crate::{
    error::{Error, Result, did_you_mean},
    position::{Offset, Partition, Topic, TopicPartition},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigSource, NewTopic as NativeNewTopic, ResourceSpecifier, TopicReplication},
    consumer::Consumer,
    error::KafkaError,
    metadata::{Metadata, MetadataTopic},
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// One attempt of a request may take so long, and this much lies between two.
const ATTEMPT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    pub name: String,
    pub partitions: usize,
}

/// A topic to be made.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1 for the broker's default.
    pub replication_factor: i32,
    pub config: BTreeMap<String, String>,
    /// Not an error when the topic is there already with as many partitions.
    pub exist_ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: Partition,
    /// -1 when there is none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub earliest: Offset,
    /// The last stable offset: what a reader of committed messages can reach.
    pub latest: Offset,
}

#[derive(Debug, Clone)]
pub struct TopicDescription {
    pub name: String,
    /// None where the broker cannot say.
    pub id: Option<String>,
    pub partitions: Vec<PartitionDescription>,
    /// What differs from the broker's defaults; secrets left out.
    pub config: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    /// The last stable offset.
    Latest,
    /// The first message at or after this many milliseconds since the epoch; the latest when there is none.
    Timestamp(i64),
}

impl Connection {
    /// Every topic but Kafka's own ("__consumer_offsets" and the like), by name.
    pub fn topics(&self) -> Result<Vec<TopicSummary>> {
        let metadata = self.metadata()?;
        let mut topics: Vec<_> = metadata
            .topics()
            .iter()
            .filter(|t| !t.name().starts_with("__"))
            .map(|t| TopicSummary { name: t.name().to_string(), partitions: t.partitions().len() })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    pub fn create_topic(&self, new: &NewTopic) -> Result<()> {
        check_name(&new.name)?;
        if new.partitions < 1 {
            return Err(Error::config(format!("Topic '{}': partitions must be at least 1.", new.name)));
        }
        if let Some(broker) = self.embedded() {
            self.check_fork()?;
            let created = broker.create_topic(new);
            return match created {
                Err(e) if e.kind == crate::Kind::Topic && new.exist_ok => self.check_existing(new),
                other => other,
            };
        }
        // Asked first, so that exist_ok also works for those who may not create topics.
        let metadata = self.metadata()?;
        if metadata.topics().iter().any(|t| t.name() == new.name && !t.partitions().is_empty()) {
            return if new.exist_ok { self.check_existing(new) } else { Err(exists(&new.name)) };
        }
        let mut native =
            NativeNewTopic::new(&new.name, new.partitions, TopicReplication::Fixed(new.replication_factor));
        for (name, value) in &new.config {
            native = native.set(name, value);
        }
        let what = format!("Creating topic '{}' on {}", new.name, self.address());
        let admin = self.admin(&what)?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let result = futures::executor::block_on(admin.create_topics([&native], &options));
        match result.map_err(|e| self.error(&what, &e))?.into_iter().next() {
            Some(Ok(_)) => self.wait_until_known(&new.name),
            Some(Err((_, Code::TopicAlreadyExists))) if new.exist_ok => self.check_existing(new),
            Some(Err((_, Code::TopicAlreadyExists))) => Err(exists(&new.name)),
            Some(Err((_, code))) => Err(failed(&what, code, &code_advice(code, new))),
            None => Err(Error::internal(format!("{what}: the broker's answer names no topic."))),
        }
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.partitions(&Topic::new(name))?;
        if let Some(broker) = self.embedded() {
            return Err(
                broker.cannot("delete topics", "use another topic name, or another broker: bayou.connect(name=\"…\")")
            );
        }
        let what = format!("Deleting topic '{name}' on {}", self.address());
        let admin = self.admin(&what)?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let result = futures::executor::block_on(admin.delete_topics(&[name], &options));
        match result.map_err(|e| self.error(&what, &e))?.into_iter().next() {
            Some(Err((_, code))) => Err(failed(&what, code, &code.to_string())),
            _ => self.wait_until_gone(name),
        }
    }

    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let topic = Topic::new(name);
        let metadata = self.metadata()?;
        let found = self.find(&metadata, name)?;
        let mut wanted = Vec::new();
        for p in found.partitions() {
            wanted.push(TopicPartition::new(name, p.id()));
        }
        let all = |spec| wanted.iter().map(|tp| (tp.clone(), spec)).collect::<Vec<_>>();
        let earliest = self.list_offsets(&all(OffsetSpec::Earliest))?;
        let latest = self.list_offsets(&all(OffsetSpec::Latest))?;
        let mut partitions: Vec<_> = found
            .partitions()
            .iter()
            .zip(&wanted)
            .map(|(p, tp)| PartitionDescription {
                partition: tp.partition,
                leader: p.leader(),
                replicas: p.replicas().to_vec(),
                isr: p.isr().to_vec(),
                earliest: earliest.get(tp).copied().unwrap_or(Offset(0)),
                latest: latest.get(tp).copied().unwrap_or(Offset(0)),
            })
            .collect();
        partitions.sort_by_key(|p| p.partition);
        Ok(TopicDescription {
            name: name.into(),
            id: self.topic_id(&topic)?,
            partitions,
            config: self.topic_config(name)?,
        })
    }

    /// A topic's partitions, ascending. A topic that does not exist is an error with the nearest name, and is not made.
    pub fn partitions(&self, topic: &Topic) -> Result<Vec<Partition>> {
        let metadata = self.metadata()?;
        let mut partitions: Vec<_> =
            self.find(&metadata, topic.as_str())?.partitions().iter().map(|p| Partition(p.id())).collect();
        partitions.sort();
        Ok(partitions)
    }

    /// What tells a topic from one of the same name made later; None where the broker cannot say (embedded, old brokers).
    pub fn topic_id(&self, topic: &Topic) -> Result<Option<String>> {
        self.check_fork()?;
        // librdkafka's mock has no controller, which is who is asked.
        if self.is_embedded() || self.cluster_id()?.starts_with("mockCluster") {
            return Ok(None);
        }
        let start = Instant::now();
        loop {
            match ffi::topic_id(self.client().client(), topic.as_str(), self.attempt(start)) {
                Ok(id) => return Ok(id),
                Err(f) if f.code == Code::UnsupportedVersion || f.code == Code::UnsupportedFeature => return Ok(None),
                Err(f) if is_passing(f.code) && start.elapsed() < REQUEST => {
                    // Says so, with the nearest name, where there is none.
                    self.partitions(topic)?;
                    std::thread::sleep(AGAIN);
                }
                Err(f) => return Err(self.failure(&format!("Describing topic '{topic}' on {}", self.address()), &f)),
            }
        }
    }

    /// How long one attempt of a request may take that began at `start`: a broker that is there and says nothing must not have
    /// all of the time, for another may answer.
    fn attempt(&self, start: Instant) -> Duration {
        let left = REQUEST.saturating_sub(start.elapsed());
        left.min(ATTEMPT).max(Duration::from_millis(500))
    }

    /// Offsets, as a reader of committed messages sees them.
    pub fn list_offsets(&self, wanted: &[(TopicPartition, OffsetSpec)]) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.check_fork()?;
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let by_time = wanted.iter().any(|(_, spec)| matches!(spec, OffsetSpec::Timestamp(_)));
        if let (true, Some(broker)) = (by_time, self.embedded()) {
            return Err(
                broker.cannot("look offsets up by time", "start at \"earliest\", \"latest\" or a dict of offsets")
            );
        }
        let asked: Vec<_> = wanted.iter().map(|(tp, spec)| (tp.clone(), native_spec(*spec))).collect();
        let mut offsets = self.ask_offsets(&asked)?;
        // No message at or after a time is answered with -1: then the latest is meant.
        let beyond: Vec<_> =
            offsets.iter().filter(|(_, (o, _))| o.0 < 0).map(|(tp, _)| (tp.clone(), ffi::LATEST)).collect();
        if !beyond.is_empty() {
            offsets.extend(self.ask_offsets(&beyond)?);
        }
        Ok(offsets.into_iter().map(|(tp, (offset, _))| (tp, offset)).collect())
    }

    /// The last stable offsets, each with the newest leader epoch of its log, where the broker says one.
    pub fn list_ends(
        &self,
        wanted: impl Iterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, (Offset, Option<i32>)>> {
        self.check_fork()?;
        let asked: Vec<_> = wanted.map(|tp| (tp, ffi::LATEST)).collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let known = |epoch: i32| (epoch >= 0).then_some(epoch);
        Ok(self.ask_offsets(&asked)?.into_iter().map(|(tp, (offset, epoch))| (tp, (offset, known(epoch)))).collect())
    }

    fn ask_offsets(&self, asked: &[(TopicPartition, i64)]) -> Result<BTreeMap<TopicPartition, (Offset, i32)>> {
        let what = format!("Looking up offsets on {}", self.address());
        let start = Instant::now();
        loop {
            let mut offsets = BTreeMap::new();
            let mut wrong = None;
            match ffi::list_offsets(self.client().client(), asked, self.attempt(start)) {
                Err(failure) => wrong = Some((None, failure)),
                Ok(answers) => {
                    for (tp, answer) in answers {
                        match answer {
                            Ok((offset, epoch)) => drop(offsets.insert(tp, (Offset(offset), epoch))),
                            Err(failure) => wrong = wrong.or(Some((Some(tp), failure))),
                        }
                    }
                }
            }
            let Some((tp, failure)) = wrong else { return Ok(offsets) };
            // "No leaders" is also what a partition that does not exist looks like.
            self.check_partitions(asked)?;
            if !is_passing(failure.code) || start.elapsed() >= REQUEST {
                let place = tp.map_or_else(String::new, |tp| format!(" for {tp}"));
                return Err(self.failure(&format!("{what}{place}"), &failure));
            }
            // Leaders move, and a new topic takes a moment to have them.
            std::thread::sleep(AGAIN);
        }
    }

    fn check_partitions(&self, asked: &[(TopicPartition, i64)]) -> Result<()> {
        let metadata = self.metadata()?;
        for (tp, _) in asked {
            let there = self.find(&metadata, tp.topic.as_str())?.partitions().len();
            if usize::try_from(tp.partition.0).map_or(true, |p| p >= there) {
                return Err(Error::topic(format!("{tp} does not exist: the topic has {there} partitions, from 0 on.")));
            }
        }
        Ok(())
    }

    /// The topic's metadata, or an error with the nearest name.
    fn find<'m>(&self, metadata: &'m Metadata, name: &str) -> Result<&'m MetadataTopic> {
        let found = metadata.topics().iter().find(|t| t.name() == name);
        match found {
            Some(topic) if !topic.partitions().is_empty() => Ok(topic),
            _ => {
                let names = metadata.topics().iter().map(MetadataTopic::name).filter(|n| !n.starts_with("__"));
                let hint = did_you_mean(name, names);
                Err(Error::topic(format!(
                    "Topic '{name}' does not exist on {}, or these credentials may not see it.{hint} create_topic(\"{name}\") makes it.",
                    self.address()
                )))
            }
        }
    }

    /// What differs from the broker's defaults.
    fn topic_config(&self, name: &str) -> Result<BTreeMap<String, String>> {
        if self.is_embedded() {
            return Ok(BTreeMap::new());
        }
        let what = format!("Describing topic '{name}' on {}", self.address());
        let admin = self.admin(&what)?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let resources = [ResourceSpecifier::Topic(name)];
        let result = futures::executor::block_on(admin.describe_configs(resources.iter(), &options));
        let resource = match result.map_err(|e| self.error(&what, &e))?.into_iter().next() {
            Some(Ok(resource)) => resource,
            // Seeing a topic and seeing its configuration are two permissions.
            Some(Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) | None => {
                return Ok(BTreeMap::new());
            }
            Some(Err(code)) => return Err(failed(&what, code, &code.to_string())),
        };
        let set = |e: &rdkafka::admin::ConfigEntry| matches!(e.source, ConfigSource::DynamicTopic) && !e.is_sensitive;
        Ok(resource.entries.into_iter().filter(set).filter_map(|e| Some((e.name, e.value?))).collect())
    }

    fn admin(&self, what: &str) -> Result<AdminClient<super::context::Watch>> {
        self.config(&[]).create_with_context(self.watch()).map_err(|e| self.error(what, &e))
    }

    fn check_existing(&self, new: &NewTopic) -> Result<()> {
        let there = self.partitions(&Topic::new(&new.name))?.len();
        if there == new.partitions as usize {
            return Ok(());
        }
        Err(Error::topic(format!(
            "Topic '{}' exists with {there} partitions, not {}. Ask for {there}, or use another name.",
            new.name, new.partitions
        )))
    }

    /// A topic is made before every broker knows it: wait, so that the next line of a notebook finds it.
    fn wait_until_known(&self, name: &str) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < REQUEST {
            let metadata = self.metadata()?;
            let topic = metadata.topics().iter().find(|t| t.name() == name);
            if topic.is_some_and(|t| !t.partitions().is_empty() && t.partitions().iter().all(|p| p.leader() >= 0)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Error::connection(format!(
            "Topic '{name}' was created on {}, but has no leaders yet. Wait and try again.",
            self.address()
        )))
    }

    fn wait_until_gone(&self, name: &str) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < REQUEST {
            if !self.metadata()?.topics().iter().any(|t| t.name() == name) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Error::connection(format!(
            "The deletion of topic '{name}' was accepted on {}, but is not finished.",
            self.address()
        )))
    }

    pub(super) fn failure(&self, what: &str, failure: &Failure) -> Error {
        failed(what, failure.code, &self.secrets().scrub(&failure.text))
    }

    pub(super) fn error(&self, what: &str, error: &KafkaError) -> Error {
        let text = self.secrets().scrub(&error.to_string());
        failed(what, error.rdkafka_error_code().unwrap_or(Code::Unknown), &text)
    }
}

fn native_spec(spec: OffsetSpec) -> i64 {
    match spec {
        OffsetSpec::Earliest => ffi::EARLIEST,
        OffsetSpec::Latest => ffi::LATEST,
        // Negative numbers have other meanings in the protocol; nothing is older than the epoch.
        OffsetSpec::Timestamp(millis) => millis.max(0),
    }
}

fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::OffsetNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::KafkaStorageError
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotController
            | Code::NetworkException
            | Code::RequestTimedOut
            | Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::ThrottlingQuotaExceeded
    )
}

fn exists(name: &str) -> Error {
    Error::topic(format!("Topic '{name}' exists already. Pass exist_ok=True to go on with it."))
}

fn code_advice(code: Code, new: &NewTopic) -> String {
    match code {
        Code::InvalidReplicationFactor => {
            format!("the cluster has fewer brokers than replication_factor={}", new.replication_factor)
        }
        Code::InvalidConfig => {
            let names: Vec<_> = new.config.keys().map(String::as_str).collect();
            format!("the broker refuses one of the settings {}", names.join(", "))
        }
        other => other.to_string(),
    }
}

/// Kafka's rule for names, checked here because brokers answer it with a bare code.
pub(super) fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(Error::topic(format!(
            "'{name}' cannot be a topic's name: 1 to 249 letters, digits, dots, underscores and hyphens."
        )));
    }
    Ok(())
}
