//! The opened topic: commits sealed epochs, and knows which epochs were sent.

use super::keys::{LiveKeys, on_topic};
use super::stage::{Shared, TopicStaging};
use super::{
    Cluster, EPOCH, Encoder, Facts, Failed, GoOn, Metadata, Number, Producer, ProducerOf, QUERY, Sent, Shape, TOPIC,
    TopicSink, group, is_upsert, on_leash, sender,
};
use crate::sink::{Commit, OutputMode, Owner, StagedRows, Staging, WaitingFile, Writer};
use crate::time::EventTime;
use crate::{Error, Kind, Result};
use arrow::array::{BinaryArray, RecordBatch};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long a transaction is tried again.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After this time the broker aborts a transaction. A transaction that has taken nearly as long gets twice the time when it is tried again.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest timeout that brokers allow by default.
const LONGEST: Duration = Duration::from_secs(900);
/// A message of an epoch may have a timestamp that is older than the seal by this much: clocks differ.
const CLOCKS: Duration = Duration::from_secs(3600);
/// No broker forgets a committed number sooner: the smallest `offsets.retention.minutes` is 1. Part of this minute is left for the calls in between.
const FORGETS: Duration = Duration::from_secs(45);

pub(super) struct TopicWriter {
    at: Arc<At>,
    staging: Arc<TopicStaging>,
    live: Arc<Mutex<LiveKeys>>,
}

/// The topic and what is connected to it; shared with calls that outlive their caller.
struct At {
    sink: TopicSink,
    cluster: Arc<dyn Cluster>,
    facts: Facts,
    owner: Arc<Mutex<Option<Owner>>>,
    link: Mutex<Link>,
    /// The newest epoch that is known to be on the topic.
    newest: AtomicI64,
}

/// The producer. As long as it exists, no other run can have sent an epoch that was sealed after the producer's creation.
struct Link {
    producer: Option<Box<dyn Producer>>,
    timeout: Duration,
}

/// The parts of a sealed epoch that are sent.
struct Job {
    epoch: i64,
    app: String,
    name: String,
    upsert: bool,
    sealed: EventTime,
    messages: Vec<RecordBatch>,
    /// The newest epoch that is on the topic according to the records of finished epochs.
    known: Option<i64>,
    accept: bool,
    /// A new generation takes over the number of the previous generation.
    takes_over: bool,
}

impl Job {
    /// Whether the rows decide a timestamp, so that the time of the seal says nothing about the messages.
    fn has_timestamps(&self) -> bool {
        let set = |b: &RecordBatch| b.column_by_name("timestamp").is_none_or(|c| c.null_count() < c.len());
        self.messages.iter().any(set)
    }
}

pub(super) fn not_ours(place: &str, app: &str, epoch: i64) -> Error {
    Error::concurrent_query(format!(
        "{place}: the group '{}' says that a different query with this name has sent epoch {epoch}. If two queries have this name, give one of them \
         a different name. If the checkpoint of this query was lost or is in a different place, restore it or set checkpoint_location. Or, to read \
         everything again from the start and to take the output over, run with full_refresh=True.",
        group(app)
    ))
}

impl TopicWriter {
    pub(super) fn new(sink: TopicSink, facts: Facts, shape: Shape, encoder: Arc<dyn Encoder>) -> Result<Self> {
        let cluster = sink.options.cluster.clone();
        let live = Arc::new(Mutex::new(LiveKeys::default()));
        let owner: Arc<Mutex<Option<Owner>>> = Arc::default();
        let staging = TopicStaging {
            cluster: cluster.clone(),
            facts: facts.clone(),
            shape,
            rows: sink.rows.clone(),
            encoder,
            judged: Mutex::default(),
            live: live.clone(),
            owner: owner.clone(),
        };
        let at = At {
            sink,
            cluster,
            facts,
            owner,
            link: Mutex::new(Link { producer: None, timeout: TIMEOUT }),
            newest: AtomicI64::new(-1),
        };
        Ok(Self { at: Arc::new(at), staging: Arc::new(staging), live })
    }

    fn recreated(&self, before: &str, now: &str) -> Error {
        Error::data_loss(format!(
            "{}: the topic was deleted and recreated (its id was {before}, and is {now}). The messages of all epochs so far are gone. To continue \
             with the new topic from here, run with accept_changes=True. To send everything again, use full_refresh=True.",
            self.at.place()
        ))
    }

    /// Runs `work` on a thread that may block. The work is stopped when the caller no longer waits.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&At, GoOn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let at = self.at.clone();
        let done = on_leash(move |go_on| work(&at, go_on)).await;
        done.map_err(|e| e.context(format!("output '{}'", self.at.sink.rows.name)))
    }
}

impl At {
    fn place(&self) -> String {
        self.sink.place()
    }

    fn owner(&self) -> Result<Owner> {
        let owner = self.owner.lock().clone();
        owner.ok_or_else(|| Error::internal("a topic does not know its query"))
    }

    fn sender(&self, owner: &Owner) -> String {
        sender(owner, &self.sink.rows.name) + &owner.id
    }

    /// The number that is committed, and whether this query has committed it.
    fn number(&self, app: &str, settled: bool, go_on: GoOn<'_>) -> Result<Option<(i64, Option<Metadata>)>> {
        let found = self.cluster.number(&group(app), &self.facts.name, settled, go_on)?;
        Ok(found.map(|Number { epoch, metadata }| (epoch, serde_json::from_str(&metadata).ok())))
    }

    /// The number of this query's newest epoch. The number of a different query is refused.
    fn own_number(&self, app: &str, settled: bool, go_on: GoOn<'_>) -> Result<Option<i64>> {
        let owner = self.owner()?;
        match self.number(app, settled, go_on)? {
            None => Ok(None),
            Some((epoch, Some(by))) if by.query_id == owner.id => Ok(Some(epoch)),
            Some((epoch, _)) => Err(not_ours(&self.place(), app, epoch)),
        }
    }

    /// Creates a producer, which ends the open transaction of an earlier producer.
    fn connect(&self, link: &mut Link, app: &str, go_on: GoOn<'_>) -> Result<(), Failed> {
        let (group, topic) = (group(app), &self.facts.name);
        let id = format!("{group}.{topic}");
        let of = ProducerOf { id: &id, group: &group, topic: &self.facts, timeout: link.timeout };
        match self.cluster.producer(&of, go_on) {
            Ok(producer) => link.producer = Some(producer),
            // The broker does not allow the longer timeout of this attempt.
            Err(failed) if failed.error.kind == Kind::Config && link.timeout > TIMEOUT => {
                link.timeout = TIMEOUT;
                return Err(Failed { again: true, ..failed });
            }
            Err(failed) => return Err(failed),
        }
        Ok(())
    }

    /// Whether the epoch is on the topic. May be called only when no other producer can have a transaction open. `since_sending`: when this run
    /// began to send an epoch that was not on the topic.
    fn was_sent(&self, job: &Job, since_sending: Option<Instant>, go_on: GoOn<'_>) -> Result<bool> {
        if job.takes_over {
            let id = &self.owner()?.id;
            let number = self.number(&job.app, true, go_on)?;
            return Ok(number.is_some_and(|(n, by)| n >= job.epoch && by.is_some_and(|by| by.query_id == *id)));
        }
        let number = self.own_number(&job.app, true, go_on)?;
        match number {
            Some(epoch) if epoch >= job.epoch => return Ok(true),
            // The committed number is not older than the number that this query knows, so Kafka has not forgotten the newest number.
            Some(epoch) if job.known.is_none_or(|known| epoch >= known) => return Ok(false),
            _ => {}
        }
        let owner = self.owner()?;
        let wanted = (job.epoch.to_string(), self.sender(&owner));
        let since = job.sealed.minus(CLOCKS).0 / 1000;
        let since = (!job.has_timestamps()).then_some(since);
        let mut sent = false;
        let whole = self.cluster.read_back(&self.facts.name, since, go_on, &mut |message: Sent<'_>| {
            let has = |name: &str, value: &str| {
                message.headers.and_then(|h| super::header(h, name)).is_some_and(|v| v == value.as_bytes())
            };
            sent = has(EPOCH, &wanted.0) && has(QUERY, &wanted.1);
            Ok(!sent)
        })?;
        // A compacted topic may have dropped messages of the epoch, because newer messages have their keys.
        let whole = whole && self.facts.compacted != Some(true);
        // Messages that replace the earlier message of their key may be sent twice.
        if sent || whole || job.upsert || job.accept {
            return Ok(sent);
        }
        // Only this run can have sent the epoch, and Kafka does not forget a number so soon.
        if since_sending.is_some_and(|began| began.elapsed() < FORGETS) {
            return Ok(false);
        }
        Err(Error::data_loss(format!(
            "{}: it is not known any more whether epoch {} was sent. Kafka has forgotten the number that the group '{}' had \
             (offsets.retention.minutes), and the topic has deleted messages of the time when the epoch was sealed. To send the epoch, perhaps for \
             the second time, run with accept_changes=True.",
            self.place(),
            job.epoch,
            group(&job.app)
        )))
    }

    fn attempt(
        &self,
        link: &mut Link,
        job: &Job,
        sending: &mut Option<Instant>,
        go_on: GoOn<'_>,
    ) -> Result<(), Failed> {
        if link.producer.is_none() {
            self.connect(link, &job.app, go_on)?;
            if self.was_sent(job, *sending, go_on)? {
                return Ok(());
            }
        }
        *sending = Some(Instant::now());
        let owner = self.owner()?;
        let metadata = Metadata { query_id: owner.id.clone(), generation: owner.generation };
        let metadata = serde_json::to_string(&metadata).map_err(|e| Error::internal(e.to_string()))?;
        let number = Number { epoch: job.epoch, metadata };
        let headers = [
            (EPOCH.to_string(), Some(job.epoch.to_string().into_bytes())),
            (QUERY.to_string(), Some(self.sender(&owner).into_bytes())),
        ];
        let Some(producer) = &link.producer else { return Ok(()) };
        producer.send(&job.messages, &number, &headers, &job.name, go_on)
    }

    /// Sends a sealed epoch once, however often that has to be tried.
    fn send(&self, job: &Job, go_on: GoOn<'_>) -> Result<()> {
        let mut link = self.link.lock();
        if self.newest.load(Ordering::Acquire) >= job.epoch {
            return Ok(());
        }
        let (began, mut pause, mut sending) = (Instant::now(), PAUSE, None);
        loop {
            let tried = Instant::now();
            let Err(failed) = self.attempt(&mut link, job, &mut sending, go_on) else {
                self.newest.store(job.epoch, Ordering::Release);
                return Ok(());
            };
            // It is not known whether the transaction was committed. A new producer makes the outcome final, and the number shows it.
            link.producer = None;
            if !failed.again || began.elapsed() >= PATIENCE {
                return Err(failed.error);
            }
            log::info!("{}: epoch {} is sent again: {}", self.place(), job.epoch, failed.error);
            if tried.elapsed() >= link.timeout / 10 * 9 {
                link.timeout = (link.timeout * 2).min(LONGEST);
            }
            let paused = Instant::now();
            while paused.elapsed() < pause {
                go_on()?;
                std::thread::sleep(PAUSE.min(Duration::from_millis(20)));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Prepares the topic for a new generation. The messages of an append topic stay. Messages that are replaced by key are deleted.
    fn begin_again(&self, app: &str, epoch: i64, go_on: GoOn<'_>) -> Result<()> {
        let mut link = self.link.lock();
        let began = Instant::now();
        while let Err(failed) = self.connect(&mut link, app, go_on) {
            if !failed.again || began.elapsed() >= PATIENCE {
                return Err(failed.error);
            }
            go_on()?;
            std::thread::sleep(PAUSE);
        }
        if let Some((number, by)) = self.number(app, true, go_on)?
            && number >= epoch
        {
            // Otherwise a different run has begun a newer generation at this moment.
            let owner = self.owner()?;
            return match by.is_some_and(|by| by.query_id == owner.id) {
                true => Ok(()),
                false => Err(not_ours(&self.place(), app, number)),
            };
        }
        let mut messages = vec![];
        if self.sink.rows.mode != OutputMode::Append {
            let live =
                on_topic(&*self.cluster, &self.facts.name, &sender(&self.owner()?, &self.sink.rows.name), go_on)?;
            let mut keys: Vec<&[u8]> = live.keys().map(|k| &**k).collect();
            keys.sort_unstable();
            if !keys.is_empty() {
                messages.push(self.cluster.tombstones(&BinaryArray::from_iter_values(keys))?);
            }
        }
        let job = Job {
            epoch,
            app: app.into(),
            name: self.sink.rows.name.clone(),
            upsert: true,
            sealed: self.sink.rows.clock.now(),
            messages,
            known: None,
            accept: true,
            takes_over: true,
        };
        drop(link);
        self.send(&job, go_on)
    }
}

#[async_trait]
impl Writer for TopicWriter {
    fn staging(&self) -> Result<Arc<dyn Staging>> {
        Ok(Arc::new(Shared(self.staging.clone())))
    }

    fn belongs_to(&mut self, owner: &Owner) {
        *self.at.owner.lock() = Some(owner.clone());
    }

    fn version(&self) -> Result<Option<(String, u64)>> {
        Ok(Some((self.at.facts.identity(), self.at.newest.load(Ordering::Acquire).try_into().unwrap_or(0))))
    }

    fn describe(&self) -> String {
        self.at.place()
    }

    fn notes(&self) -> Vec<String> {
        let compacted = self.at.facts.compacted != Some(false);
        match self.at.sink.rows.mode {
            OutputMode::Append => vec![],
            _ if compacted => vec![],
            mode => vec![format!(
                "{}: in output_mode=\"{}\" messages replace each other by key, and the topic is not compacted. The topic keeps messages until its \
                 retention. Readers that start after that miss groups. Set cleanup.policy=compact.",
                self.describe(),
                mode.name()
            )],
        }
    }

    async fn newest_epoch(&self, app: &str) -> Result<Option<i64>> {
        let app = app.to_string();
        self.with(move |at, go_on| {
            let mut link = at.link.lock();
            if link.producer.is_none() {
                // A different query of this name is refused before its producer is fenced.
                at.own_number(&app, false, go_on)?;
                at.connect(&mut link, &app, go_on).map_err(|f| f.error)?;
            }
            let number = at.own_number(&app, true, go_on)?;
            at.newest.fetch_max(number.unwrap_or(-1), Ordering::AcqRel);
            Ok(number)
        })
        .await
    }

    fn check_id(&self, known: &str, accept: bool) -> Result<()> {
        if accept || known == self.at.facts.identity() {
            return Ok(());
        }
        let (place, name) = (self.describe(), &self.at.facts.name);
        let (before, id) = known.split_once('/').unwrap_or((known, ""));
        // Depending on their version, brokers return the id or not.
        if before == name && (id.is_empty() || self.at.facts.id.is_none()) {
            return Ok(());
        }
        if before != name {
            return Err(Error::config(format!(
                "{place}: the query wrote this output to the topic '{before}' before. Messages that were sent there are not sent again. To continue \
                 with the topic '{name}' from here, run with accept_changes=True. To send everything to it, use full_refresh=True."
            )));
        }
        Err(self.recreated(id, self.at.facts.id.as_deref().unwrap_or("unknown")))
    }

    /// Refuses a recreated topic. Otherwise the messages of an epoch that was sealed for the old topic would go to the new topic, without the
    /// messages of all earlier epochs.
    async fn look(
        &mut self,
        _files: &[WaitingFile],
        _whole: Option<&StagedRows>,
        _admitted: Option<&str>,
    ) -> Result<Option<(Arc<dyn Staging>, usize)>> {
        let known = self.at.facts.clone();
        let now = match self.with(|at, _| at.cluster.id(&at.facts.name)).await {
            Ok(id) => id,
            // The commit waits for the cluster.
            Err(e) if e.kind == Kind::Connection => return Ok(None),
            Err(e) => return Err(e),
        };
        match (&known.id, now) {
            (Some(id), Some(now)) if *id != now => {
                Err(self.recreated(id, &now).context(format!("output '{}'", self.at.sink.rows.name)))
            }
            _ => Ok(None),
        }
    }

    async fn empty(&mut self, app: &str, epoch: i64) -> Result<()> {
        let app = app.to_string();
        self.with(move |at, go_on| at.begin_again(&app, epoch, go_on)).await?;
        *self.live.lock() = LiveKeys::default();
        Ok(())
    }

    async fn commit(&mut self, commit: Commit) -> Result<Option<u64>> {
        let sealed_for = commit.staged.files.iter().filter_map(|f| f.get(TOPIC)?.as_str());
        for id in sealed_for.chain(commit.known.iter().map(|k| k.id.as_str())) {
            self.check_id(id, commit.accept_changes)?;
        }
        let job = Job {
            epoch: commit.epoch,
            app: commit.app,
            name: commit.name,
            upsert: is_upsert(&commit.mode),
            sealed: commit.sealed,
            messages: commit.staged.whole.map(|w| w.batches).unwrap_or_default(),
            known: commit.known.and_then(|k| k.epoch),
            accept: commit.accept_changes,
            takes_over: false,
        };
        let epoch = job.epoch;
        self.with(move |at, go_on| at.send(&job, go_on)).await?;
        Ok(Some(epoch.try_into().unwrap_or(0)))
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { again: error.kind == Kind::Connection, error }
    }
}
