//! Iterators: the engine without tables. At-least-once; nothing is committed unless a name and a checkpoint are given.

use super::feed::{Fed, Feed, one_connection};
use super::rebatch::Rebatch;
use crate::batch::{MAX_MESSAGE_BYTES, Messages};
use crate::engine::plan::{Plan, Target};
use crate::engine::{End, Engine};
use crate::epoch::{PositionMap, position_map, positions};
use crate::flow::mode::parse_mode;
use crate::flow::source::{KafkaSource, OnMalformed};
use crate::flow::stream::Stream;
use crate::flow::subscription::Subscription;
use crate::flow::trigger::Trigger;
use crate::kafka::{Chunk, GroupOptions, GroupReader, Look};
use crate::position::TopicPartition;
use crate::sink::OutputMode;
use crate::storage::Location;
use crate::time::SharedClock;
use crate::window::Tracker;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer about topic ids is valid for this long: a topic cannot be deleted, recreated and filled beyond our position in less time.
const CONFIRMED: Duration = Duration::from_millis(50);

pub(crate) struct IterateOptions {
    pub trigger: Trigger,
    pub output_mode: Option<String>,
    pub limit: Option<usize>,
    pub timeout: Option<Duration>,
    pub batch_rows: Option<usize>,
    pub close_windows: bool,
    /// Malformed messages stop an iterator unless the user chooses a different policy.
    pub on_malformed: OnMalformed,
    pub checkpoint: Option<(Location, String)>,
    /// The consumer group that this iterator is a member of.
    pub group: Option<String>,
    /// How many rejects are kept for the user to look at; the others are only counted.
    pub keep_rejects: usize,
}

impl Default for IterateOptions {
    fn default() -> Self {
        Self {
            trigger: Trigger::AvailableNow,
            output_mode: None,
            limit: None,
            timeout: None,
            batch_rows: None,
            close_windows: false,
            on_malformed: OnMalformed::Fail,
            checkpoint: None,
            group: None,
            keep_rejects: 0,
        }
    }
}

pub(crate) enum Polled {
    Batch(RecordBatch),
    Pending,
    Done,
}

pub(crate) struct BatchIterator {
    pub engine: Engine,
    feed: Option<Feed>,
    /// Instead of a feed, for a member of a consumer group.
    group: Option<GroupReader>,
    /// The number of rows made so far, and its value at the end of each part of messages that the group's reader has handed out and that is not
    /// committed.
    made: usize,
    parts: VecDeque<usize>,
    /// The rows of the newest part are not all made.
    is_open: bool,
    /// Rows were cut off by `limit`.
    was_cut: bool,
    at_hand: bool,
    out: Rebatch,
    mode: OutputMode,
    options: IterateOptions,
    left: usize,
    deadline: Option<Instant>,
    tick: Instant,
    changed: bool,
    done: bool,
    flush: bool,
    runtime: tokio::runtime::Handle,
    clock: SharedClock,
    /// Messages that are held until Kafka confirms that their topic was not recreated, and when Kafka last confirmed this.
    held: Option<(Arc<Messages>, Vec<u32>)>,
    confirmed: Option<Instant>,
    /// Positions behind the batches handed out; stored when the next batch is requested.
    handed: Option<PositionMap>,
}

/// Joins a consumer group. Refuses a stream with state. After a rebalance, its state would be about partitions that
/// other members read.
fn join(group: &str, engine: &Engine, sources: &[Arc<KafkaSource>], options: &IterateOptions) -> Result<GroupReader> {
    let wrong = |text: &str| Err(Error::config(format!("group_id=\"{group}\": {text}")));
    if !engine.plan.operators.is_empty() {
        return wrong(
            "each member of a group reads only some of the partitions, so a stream with state (aggregates, drop_duplicates, joins of streams) \
             cannot be read in a group. Write a table with write_delta, or leave group_id= out.",
        );
    }
    if options.checkpoint.is_some() {
        return wrong("the group keeps the position, so leave name= and checkpoint_location= out");
    }
    let connection = match one_connection(sources) {
        Ok(connection) => connection,
        Err(_) if sources.is_empty() => return wrong("rows in memory are not read in a group"),
        Err(e) => return Err(e),
    };
    if sources.iter().any(|s| s.ending.is_some()) {
        return wrong("ending_offsets= is not for groups: the partitions of a member change. Use timeout= or limit=.");
    }
    if sources.iter().any(|s| matches!(s.topics, Subscription::Partitions(_))) {
        return wrong("the group assigns partitions, so leave assign out");
    }
    let subscriptions: Vec<Subscription> = sources.iter().map(|s| s.topics.clone()).collect();
    let follows = subscriptions.iter().any(Subscription::is_pattern);
    let cluster = connection.clone();
    let look: Look = Arc::new(move || {
        let mut topics = BTreeSet::new();
        for subscription in &subscriptions {
            topics.extend(subscription.topics(&cluster)?.iter().map(ToString::to_string));
        }
        Ok(topics)
    });
    let topics = look()?;
    if topics.is_empty() {
        return wrong("no topic matches the pattern yet");
    }
    let theirs = sources.to_vec();
    let starts = move |wanted: &[TopicPartition]| {
        let mut starts = Feed::starts(&theirs)?;
        starts.retain(|tp, _| wanted.contains(tp));
        Ok(starts)
    };
    let options = GroupOptions {
        group: group.into(),
        topics,
        look: follows.then_some(look),
        starts: Arc::new(starts),
        bounded: options.trigger == Trigger::AvailableNow,
        fail_on_data_loss: sources.iter().any(|s| s.fail_on_data_loss),
        max_message_bytes: sources.iter().map(|s| s.decode.max_message_bytes).max().unwrap_or(MAX_MESSAGE_BYTES),
    };
    GroupReader::join(&connection, &options)
}

impl BatchIterator {
    pub(crate) fn new(
        stream: &Stream,
        options: IterateOptions,
        runtime: tokio::runtime::Handle,
        clock: SharedClock,
    ) -> Result<Self> {
        let mode = parse_mode(options.output_mode.as_deref(), stream)?;
        let target =
            Target { name: stream.name().unwrap_or("stream").into(), stream: stream.clone(), mode, apart: false };
        let plan = Plan::new(vec![target])?;
        let sources = plan.kafka_sources();
        if options.checkpoint.is_some() && (!plan.operators.is_empty() || sources.is_empty()) {
            return Err(Error::config(
                "name= and checkpoint_location= keep an iterator's position in a topic; an aggregate's state is kept by write_delta",
            ));
        }
        let engine = Engine::new(plan, options.on_malformed)?;
        let mut start = None;
        if let Some((at, name)) = &options.checkpoint {
            let file = format!("iterator-{name}.json");
            if let Some(bytes) = runtime.block_on(at.get(&file))? {
                let map: PositionMap = serde_json::from_slice(&bytes)
                    .map_err(|e| Error::storage(format!("{}{file} is damaged: {e}", at.display())))?;
                start = Some(positions(&map));
            }
        }
        let group = options.group.as_deref().map(|group| join(group, &engine, &sources, &options)).transpose()?;
        let feed = match sources.is_empty() || group.is_some() {
            true => None,
            false => {
                let start = start.map_or_else(|| Feed::starts(&sources), Ok)?;
                let mut feed =
                    Feed::new(sources, start.into(), options.trigger == Trigger::AvailableNow, clock.clone())?;
                feed.topic_ids = feed.ask_topic_ids()?;
                Some(feed)
            }
        };
        let mut it = Self {
            at_hand: feed.is_none() && group.is_none(),
            feed,
            group,
            made: 0,
            parts: VecDeque::new(),
            is_open: false,
            was_cut: false,
            out: Rebatch::new(stream.schema().clone(), options.batch_rows),
            mode,
            left: options.limit.unwrap_or(usize::MAX),
            deadline: options.timeout.map(|t| Instant::now() + t),
            tick: Instant::now(),
            changed: false,
            done: false,
            flush: false,
            runtime,
            clock,
            held: None,
            confirmed: None,
            handed: None,
            engine,
            options,
        };
        if let Some(feed) = &it.feed {
            it.engine.know(feed.positions.keys());
        }
        it.engine.limit(crate::memory::half_of_memory());
        it.engine.begin();
        super::statics::refresh(&mut it.engine, &it.runtime, crate::memory::half_of_memory(), None)?;
        Ok(it)
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.engine.plan.targets[0].stream.schema().clone()
    }

    /// Takes one step of at most about `wait`.
    pub(crate) fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.store_position()?;
        if self.left == 0 {
            self.commit_used(true);
            self.close();
        }
        if let Some(batch) = self.pop()? {
            return Ok(Polled::Batch(batch));
        }
        if self.done {
            if self.group.is_some() {
                self.commit_used(true);
                self.close();
            }
            return Ok(Polled::Done);
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            self.flush = true;
            if !self.engine.is_unfinished() {
                self.commit_used(true);
            }
            self.close();
            return Ok(self.pop()?.map_or(Polled::Done, Polled::Batch));
        }
        // Rows that are made are handed out before more rows are made, and all rows of the messages before more messages are read.
        if self.engine.is_unfinished() && self.options.batch_rows.is_none() {
            self.flush = true;
            if let Some(batch) = self.pop()? {
                return Ok(Polled::Batch(batch));
            }
        }
        if self.engine.go_on()? {
            self.collect_rows();
            self.flush |= self.options.trigger == Trigger::AvailableNow && self.options.batch_rows.is_none();
            return Ok(self.pop()?.map_or(Polled::Pending, Polled::Batch));
        }
        if self.at_hand {
            self.engine.push_at_hand(self.clock.now())?;
            self.end_epoch(true)?;
            self.done = true;
            self.flush = true;
        } else if self.group.is_some() {
            self.read_in_group(wait)?;
        } else if let Err(e) = self.read(wait) {
            if self.feed.as_ref().is_some_and(|f| f.connection.check_alive().is_err()) {
                self.close();
            }
            return Err(e);
        }
        match self.pop()? {
            Some(batch) => Ok(Polled::Batch(batch)),
            None if self.done => Ok(Polled::Done),
            None => Ok(Polled::Pending),
        }
    }

    /// Commits the parts whose rows have all been handed out: the user asks for more, so they were used.
    fn commit_used(&mut self, wait: bool) {
        let Some(group) = &mut self.group else { return };
        if std::mem::take(&mut self.is_open) {
            self.parts.push_back(self.made);
        }
        let handed_out = self.made - self.out.rows();
        let used = self.parts.iter().take_while(|made| **made <= handed_out).count();
        if used > 0 && !self.was_cut {
            self.parts.drain(..used);
            group.commit(used, wait);
        }
    }

    fn read_in_group(&mut self, wait: Duration) -> Result<()> {
        let now = self.clock.now();
        self.commit_used(false);
        let Some(group) = &mut self.group else { return Ok(()) };
        match group.next(wait, self.left)? {
            Chunk::Messages(messages, wanted) => {
                self.is_open = true;
                self.engine.push_messages(&messages, &wanted, now)?;
                self.collect_rows();
                self.flush |= self.options.batch_rows.is_none();
            }
            Chunk::Nothing => {}
            Chunk::Finished => {
                self.end_epoch(true)?;
                self.done = true;
                self.flush = true;
            }
        }
        Ok(())
    }

    fn read(&mut self, wait: Duration) -> Result<()> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let now = self.clock.now();
        let until_tick = match self.options.trigger {
            Trigger::Interval(every) => (self.tick + every).saturating_duration_since(Instant::now()),
            Trigger::AvailableNow => wait,
        };
        let wait = wait.min(until_tick.max(Duration::from_millis(1)));
        let fed = match self.held.take() {
            None => feed.next(wait, None)?,
            Some((messages, wanted)) => match feed.confirm_topics(wait)? {
                None => {
                    self.held = Some((messages, wanted));
                    Fed::Nothing
                }
                Some(true) => {
                    self.confirmed = Some(Instant::now());
                    Fed::Messages(messages, wanted)
                }
                Some(false) => {
                    // A recreated topic is read again from its start, so its messages in this batch are dropped.
                    let anew = feed.look_again()?;
                    self.engine.know(feed.positions.keys());
                    let stands = |i: &u32| !anew.contains(&messages.source(*i as usize).topic);
                    let wanted = wanted.into_iter().filter(stands).collect();
                    Fed::Messages(messages, wanted)
                }
            },
        };
        match fed {
            Fed::Messages(messages, wanted) if self.confirmed.is_none_or(|at| at.elapsed() > CONFIRMED) => {
                self.held = Some((messages, wanted));
            }
            Fed::Messages(messages, wanted) => {
                self.engine.push_messages(&messages, &wanted, now)?;
                self.changed = true;
                self.collect_rows();
                if self.options.trigger == Trigger::AvailableNow && self.options.batch_rows.is_none() {
                    self.flush = true;
                }
            }
            Fed::Nothing => {}
            Fed::Again(why) => {
                log::warn!("{why}; looking at the topic again");
                feed.look_again()?;
                self.engine.know(feed.positions.keys());
            }
            Fed::Finished => {
                self.end_epoch(true)?;
                self.done = true;
                self.flush = true;
            }
        }
        // An epoch ends when all rows of the messages that were read are made.
        if let Trigger::Interval(every) = self.options.trigger
            && self.tick.elapsed() >= every
            && !self.engine.is_unfinished()
        {
            self.tick = Instant::now();
            let idle = |t: &Tracker, p: &TopicPartition| self.feed.as_ref().is_some_and(|f| f.is_idle(t, p, now));
            if self.changed || self.engine.would_emit(&idle, now) {
                self.end_epoch(false)?;
                self.flush = true;
            }
            if let Some(feed) = &mut self.feed {
                let new = feed.rediscover()?;
                self.engine.know(new.keys());
            }
        }
        Ok(())
    }

    fn end_epoch(&mut self, last: bool) -> Result<()> {
        let now = self.clock.now();
        let feed = &self.feed;
        let idle = |t: &Tracker, p: &TopicPartition| feed.as_ref().is_some_and(|f| f.is_idle(t, p, now));
        // An iterator keeps no state on disk, so the changes of this epoch's state are dropped.
        let end = End { close: last && self.options.close_windows, catch_up: false };
        self.engine.finish_epoch(&idle, end, now)?;
        self.changed = false;
        self.collect_rows();
        if !last {
            super::statics::refresh(&mut self.engine, &self.runtime, crate::memory::half_of_memory(), None)?;
        }
        Ok(())
    }

    fn collect_rows(&mut self) {
        // Each reject holds its whole chunk of messages in memory.
        self.engine.keep_rejects(self.options.keep_rejects);
        for batch in self.engine.take_rows(0) {
            if self.mode == OutputMode::Complete || !batch.is_empty() {
                self.made += batch.len();
                self.out.push(batch.rows);
            }
        }
    }

    fn pop(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.out.pop(self.flush)? else {
            self.flush = self.done;
            return Ok(None);
        };
        let cut = batch.num_rows() > self.left;
        self.was_cut |= cut;
        let batch = batch.slice(0, batch.num_rows().min(self.left));
        self.left -= batch.num_rows();
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        if self.options.checkpoint.is_some()
            && self.out.rows() == 0
            && self.held.is_none()
            && !self.engine.is_unfinished()
            && !cut
        {
            self.handed = self.feed.as_ref().map(|f| position_map(&f.positions));
        }
        Ok(Some(batch))
    }

    fn store_position(&mut self) -> Result<()> {
        if let (Some((at, name)), Some(map)) = (&self.options.checkpoint, self.handed.take()) {
            let bytes = serde_json::to_vec(&map).map_err(|e| Error::internal(e.to_string()))?;
            self.runtime.block_on(at.put(&format!("iterator-{name}.json"), bytes))?;
        }
        Ok(())
    }

    /// Releases the consumer.
    pub(crate) fn close(&mut self) {
        self.done = true;
        if let Some(group) = self.group.take() {
            group.leave();
        }
        if let Some(mut feed) = self.feed.take() {
            feed.stop();
        }
        crate::kafka::embedded::remove_what_is_left();
    }
}
