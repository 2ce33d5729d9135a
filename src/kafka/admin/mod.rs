//! Topics: list, create, describe, delete; partitions and offsets.

mod acls;
mod groups;
mod settings;

pub(crate) use settings::Configured;

use super::{
    Connection,
    connection::REQUEST,
    context::{Watch, failed},
    ffi::{self, Failure},
};
use crate::{
    error::{Error, Result, did_you_mean},
    position::{Offset, Partition, Topic, TopicPartition},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic as NativeNewTopic, TopicReplication},
    client::Client,
    consumer::Consumer,
    error::KafkaError,
    metadata::{Metadata, MetadataTopic},
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The timeout of one attempt of a request, and the pause between two attempts.
const ATTEMPT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// A topic in the list of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    pub name: String,
    pub partitions: usize,
}

/// A topic to create.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1 is the default of the broker.
    pub replication_factor: i32,
    pub config: BTreeMap<String, String>,
    /// If the topic exists with the same number of partitions, this is not an error.
    pub exist_ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: Partition,
    /// -1 if the partition has no leader.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub earliest: Offset,
    /// The last stable offset: the end for a reader of committed messages.
    pub latest: Offset,
}

#[derive(Debug, Clone)]
pub struct TopicDescription {
    pub name: String,
    /// None if the broker does not have topic ids.
    pub id: Option<String>,
    pub partitions: Vec<PartitionDescription>,
    /// Settings that differ from the broker's defaults, without secrets.
    pub config: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    /// The last stable offset.
    Latest,
    /// The first message at or after this many milliseconds since the epoch. Without such a message: the latest offset.
    Timestamp(i64),
}

/// The timeouts of an admin request and of the broker's work for it.
fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

impl Connection {
    /// Every topic by name. Kafka's internal topics ("__consumer_offsets" and similar) only on request.
    pub fn topics(&self, internal: bool) -> Result<Vec<TopicSummary>> {
        let metadata = self.metadata()?;
        let mut topics: Vec<_> = metadata
            .topics()
            .iter()
            .filter(|t| internal || !t.name().starts_with("__"))
            .map(|t| TopicSummary { name: t.name().to_string(), partitions: t.partitions().len() })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    pub fn create_topic(&self, new: &NewTopic) -> Result<()> {
        check_name(&new.name)?;
        if new.partitions < 1 {
            return Err(Error::config(format!("topic '{}': partitions must be at least 1", new.name)));
        }
        if let Some(broker) = self.embedded() {
            self.check_fork()?;
            let created = broker.create_topic(new);
            return match created {
                Err(e) if e.kind == crate::Kind::Topic && new.exist_ok => self.check_existing(new),
                other => other,
            };
        }
        // This question comes first, so that exist_ok also works without the permission to create topics.
        let metadata = self.metadata()?;
        if metadata.topics().iter().any(|t| t.name() == new.name && !t.partitions().is_empty()) {
            return if new.exist_ok { self.check_existing(new) } else { Err(exists(&new.name)) };
        }
        let mut native =
            NativeNewTopic::new(&new.name, new.partitions, TopicReplication::Fixed(new.replication_factor));
        for (name, value) in &new.config {
            native = native.set(name, value);
        }
        let what = format!("creating topic '{}' on {}", new.name, self.address());
        let admin = self.admin(&what)?;
        let options = options();
        let result = futures::executor::block_on(admin.create_topics([&native], &options));
        match result.map_err(|e| self.error(&what, &e))?.into_iter().next() {
            Some(Ok(_)) => self.wait_until_known(&new.name),
            Some(Err((_, Code::TopicAlreadyExists))) if new.exist_ok => self.check_existing(new),
            Some(Err((_, Code::TopicAlreadyExists))) => Err(exists(&new.name)),
            Some(Err((_, code))) => Err(failed(&what, code, &code_advice(code, new))),
            None => Err(Error::internal(format!("{what}: the broker's answer does not contain the topic"))),
        }
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.partitions(&Topic::new(name))?;
        if let Some(broker) = self.embedded() {
            return Err(broker.cannot(
                "delete topics",
                "use a different topic name, or a different broker: bayou.connect(name=\"…\")",
            ));
        }
        let what = format!("deleting topic '{name}' on {}", self.address());
        let admin = self.admin(&what)?;
        let options = options();
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

    /// The partitions of a topic, ascending. If the topic does not exist, the error names the nearest name, and the
    /// topic is not created.
    pub fn partitions(&self, topic: &Topic) -> Result<Vec<Partition>> {
        let metadata = self.metadata()?;
        let mut partitions: Vec<_> =
            self.find(&metadata, topic.as_str())?.partitions().iter().map(|p| Partition(p.id())).collect();
        partitions.sort();
        Ok(partitions)
    }

    /// The id distinguishes a topic from a later topic with the same name. None if the broker does not have ids
    /// (embedded, old brokers).
    pub fn topic_id(&self, topic: &Topic) -> Result<Option<String>> {
        self.check_fork()?;
        // DescribeTopics goes to the controller, and librdkafka's mock does not have one.
        if self.is_embedded() || self.cluster_id()?.starts_with("mockCluster") {
            return Ok(None);
        }
        let start = Instant::now();
        loop {
            match ffi::topic_id(self.client().client(), topic.as_str(), self.attempt(start)) {
                Ok(id) => return Ok(id),
                Err(f) if f.code == Code::UnsupportedVersion || f.code == Code::UnsupportedFeature => return Ok(None),
                Err(f) if is_passing(f.code) && start.elapsed() < REQUEST => {
                    // If the topic does not exist, the error names the nearest name.
                    self.partitions(topic)?;
                    std::thread::sleep(AGAIN);
                }
                Err(f) => return Err(self.failure(&format!("describing topic '{topic}' on {}", self.address()), &f)),
            }
        }
    }

    /// The timeout of one attempt of a request that began at `start`. A broker that accepts the connection and does not
    /// answer must not use up all of the time, because a different broker may answer.
    fn attempt(&self, start: Instant) -> Duration {
        let left = REQUEST.saturating_sub(start.elapsed());
        left.min(ATTEMPT).max(Duration::from_millis(500))
    }

    /// Offsets as a reader of committed messages sees them.
    pub fn list_offsets(&self, wanted: &[(TopicPartition, OffsetSpec)]) -> Result<BTreeMap<TopicPartition, Offset>> {
        let mut offsets = self.look_up(wanted)?;
        // If no message is at or after the time, the latest offset is meant.
        let beyond: Vec<_> =
            offsets.iter().filter(|(_, o)| o.0 < 0).map(|(tp, _)| (tp.clone(), OffsetSpec::Latest)).collect();
        offsets.extend(self.look_up(&beyond)?);
        Ok(offsets)
    }

    /// As `list_offsets`, for times with a message at or after each.
    pub fn list_offsets_of_messages(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let offsets = self.look_up(wanted)?;
        let without: Vec<_> = offsets.iter().filter(|(_, o)| o.0 < 0).map(|(tp, _)| tp.to_string()).collect();
        if !without.is_empty() {
            return Err(Error::config(format!(
                "no message at or after the starting time is in {}. To start at the end there, use startingOffsetsByTimestampStrategy=latest.",
                without.join(", ")
            )));
        }
        Ok(offsets)
    }

    /// For a time without a message at or after it, the offset is -1.
    fn look_up(&self, wanted: &[(TopicPartition, OffsetSpec)]) -> Result<BTreeMap<TopicPartition, Offset>> {
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
        Ok(self.ask_offsets(&asked)?.into_iter().map(|(tp, (offset, _))| (tp, offset)).collect())
    }

    /// The last stable offsets, each with the newest leader epoch of its log, if the broker knows it.
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
        let what = format!("looking up offsets on {}", self.address());
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
            // A partition that does not exist also gives "no leaders".
            self.check_partitions(asked)?;
            if !is_passing(failure.code) || start.elapsed() >= REQUEST {
                let place = tp.map_or_else(String::new, |tp| format!(" for {tp}"));
                return Err(self.failure(&format!("{what}{place}"), &failure));
            }
            // Leaders move, and a new topic needs a moment to get leaders.
            std::thread::sleep(AGAIN);
        }
    }

    fn check_partitions(&self, asked: &[(TopicPartition, i64)]) -> Result<()> {
        let metadata = self.metadata()?;
        for (tp, _) in asked {
            let there = self.find(&metadata, tp.topic.as_str())?.partitions().len();
            if usize::try_from(tp.partition.0).map_or(true, |p| p >= there) {
                return Err(Error::topic(format!(
                    "{tp} does not exist. The topic has {there} partitions, counted from 0."
                ))
                .in_partition(tp.topic.as_str(), tp.partition.0));
            }
        }
        Ok(())
    }

    /// The metadata of the topic, or an error with the nearest name.
    fn find<'m>(&self, metadata: &'m Metadata, name: &str) -> Result<&'m MetadataTopic> {
        let found = metadata.topics().iter().find(|t| t.name() == name);
        match found {
            Some(topic) if !topic.partitions().is_empty() => Ok(topic),
            _ => {
                // Asked by name, a broker distinguishes a topic that these credentials may not see from a topic that does not exist.
                if !self.is_embedded()
                    && let Err(f) = ffi::topic_id(self.client().client(), name, ATTEMPT)
                    && f.code == Code::TopicAuthorizationFailed
                {
                    return Err(Error::acl(format!(
                        "topic '{name}' on {}: these credentials have no DESCRIBE permission on the topic. READ and WRITE include it. Ask for an \
                         ACL, or check the name: without the permission, the broker does not say whether the topic exists.",
                        self.address()
                    ))
                    .in_topic(name));
                }
                let names = metadata.topics().iter().map(MetadataTopic::name).filter(|n| !n.starts_with("__"));
                let hint = did_you_mean(name, names);
                Err(Error::topic(format!(
                    "topic '{name}' does not exist on {}, or these credentials may not see it.{hint} To create it, call create_topic(\"{name}\").",
                    self.address()
                ))
                .in_topic(name))
            }
        }
    }

    /// Settings that differ from the broker's defaults.
    fn topic_config(&self, name: &str) -> Result<BTreeMap<String, String>> {
        if self.is_embedded() {
            return Ok(BTreeMap::new());
        }
        match self.settings(&Configured::Topic(name.into())) {
            Ok(all) => Ok(all
                .into_iter()
                .filter(|s| s.source == "topic" && !s.is_sensitive)
                .filter_map(|s| Some((s.name, s.value?)))
                .collect()),
            // A topic and its configuration need different permissions.
            Err(e) if e.kind == crate::Kind::Acl => Ok(BTreeMap::new()),
            Err(e) => Err(e),
        }
    }

    /// Asks until there is an answer, or a failure that does not pass by itself, for at most `REQUEST`.
    fn answered<T>(
        &self,
        question: impl Fn(&Client<Watch>, Duration) -> std::result::Result<T, Failure>,
    ) -> Result<std::result::Result<T, Failure>> {
        self.check_fork()?;
        let start = Instant::now();
        loop {
            match question(self.client().client(), self.attempt(start)) {
                Err(f) if is_passing(f.code) && start.elapsed() < REQUEST => std::thread::sleep(AGAIN),
                answer => return Ok(answer),
            }
        }
    }

    /// As `answered`, with an error about `what`.
    fn ask<T>(
        &self,
        what: &str,
        question: impl Fn(&Client<Watch>, Duration) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        self.answered(question)?.map_err(|f| self.failure(what, &f))
    }

    /// Refuses what the embedded broker does not have.
    fn real(&self, what: &str) -> Result<()> {
        match self.embedded() {
            Some(broker) => Err(broker.cannot(what, "it has only topics and their messages")),
            None => Ok(()),
        }
    }

    fn admin(&self, what: &str) -> Result<AdminClient<Watch>> {
        let admin: AdminClient<Watch> =
            self.config(&[]).create_with_context(self.watch()).map_err(|e| self.error(what, &e))?;
        // No thread serves the events in which this client asks for a token.
        if let Some(tokens) = self.tokens() {
            let token = tokens.next().and_then(|token| ffi::set_token(admin.inner().native_ptr(), &token));
            token.map_err(|why| Error::auth(format!("{what}: {why}")))?;
        }
        Ok(admin)
    }

    fn check_existing(&self, new: &NewTopic) -> Result<()> {
        let there = self.partitions(&Topic::new(&new.name))?.len();
        if there == new.partitions as usize {
            return Ok(());
        }
        Err(Error::topic(format!(
            "topic '{}' exists with {there} partitions, not {}. Use partitions={there}, or a different name.",
            new.name, new.partitions
        ))
        .in_topic(&new.name))
    }

    /// A topic is created before every broker knows it. Wait, so that the next line of a notebook finds it.
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
            "topic '{name}' was created on {}, but does not have leaders yet. Wait, and try again.",
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
            "the deletion of topic '{name}' was accepted on {}, but is not finished",
            self.address()
        )))
    }

    pub(super) fn failure(&self, what: &str, failure: &Failure) -> Error {
        failed(what, failure.code, &self.secrets().scrub(&failure.text))
    }

    pub(super) fn error(&self, what: &str, error: &KafkaError) -> Error {
        let text = self.secrets().scrub(&error.to_string());
        let code = match error {
            KafkaError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        };
        failed(what, code.unwrap_or(Code::Unknown), &text)
    }
}

fn native_spec(spec: OffsetSpec) -> i64 {
    match spec {
        OffsetSpec::Earliest => ffi::EARLIEST,
        OffsetSpec::Latest => ffi::LATEST,
        // In the protocol, negative numbers have a different meaning. No message is older than the epoch.
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
    Error::topic(format!("topic '{name}' exists already. To use it, pass exist_ok=True.")).in_topic(name)
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

/// Kafka's rule for names. It is checked here, because brokers answer only with an error code.
pub(super) fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(Error::topic(format!(
            "'{name}' is not a valid topic name. Use 1 to 249 letters, digits, dots, underscores and hyphens."
        )));
    }
    Ok(())
}
