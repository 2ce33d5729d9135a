//! A reader that is a member of a consumer group, together with other members. At least once: an offset is committed when its messages were used.
//!
//! librdkafka is polled on a thread of its own, so that a member whose messages take long to use stays in the group. Messages wait in chunks. When
//! a partition is revoked, the messages of it that wait are dropped, and the chunk that is being used may be finished first.

use super::ends::{Ends, raise_to_first};
use super::pattern::Pattern;
use crate::batch::{Headers, Message, Messages, TimestampType};
use crate::error::{Error, Kind, Result};
use crate::kafka::context::{Watch, failed, kind_of, watched};
use crate::kafka::{Connection, OffsetSpec};
use crate::position::{Offset, Positions, TopicPartition};
use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, Timestamp};
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr as Native};
use rdkafka::{Offset as NativeOffset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A chunk ends at the first of these.
const CHUNK_ROWS: usize = 8192;
const CHUNK_BYTES: usize = 8 << 20;
/// How many chunks may wait, besides the chunk that is being used.
const CHUNKS: usize = 2;
/// How long there is no room for messages before reading is paused. librdkafka is still polled then. At most a third of max.poll.interval.ms.
const FULL: Duration = Duration::from_secs(10);
/// How long a bounded member has no partition before it ends. A member that is slow to give up partitions may need the
/// sum of `FULL`, `USED` and a heartbeat.
const NOTHING: Duration = Duration::from_secs(20);
/// How long a bounded member waits for messages before it says so, and says so again.
const QUIET: Duration = Duration::from_secs(30);
/// How long a rebalance waits for the chunk that is being used.
const USED: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(100);
const REQUEST: Duration = Duration::from_secs(5);

/// Where a partition starts if the group has no offset for it.
pub(super) type Starts = Arc<dyn Fn(&[TopicPartition]) -> Result<Positions> + Send + Sync>;

/// The topics that match a pattern now.
pub(crate) type Look = Arc<dyn Fn() -> Result<BTreeSet<String>> + Send + Sync>;

pub(crate) struct GroupOptions {
    pub group: String,
    pub topics: BTreeSet<String>,
    /// Looks up the topics again. None: they are given by name.
    pub look: Option<Look>,
    pub starts: Starts,
    /// Ends when all messages are read that existed when the partitions were assigned.
    pub bounded: bool,
    pub fail_on_data_loss: bool,
    pub max_message_bytes: usize,
}

/// What comes next.
pub(crate) enum Chunk {
    Messages(Arc<Messages>, Vec<u32>),
    Nothing,
    /// A bounded reader has read everything.
    Finished,
}

#[derive(Default)]
pub(super) struct State {
    /// The partitions of this member, each with the number of its assignment.
    pub owned: BTreeMap<TopicPartition, u64>,
    assigned: u64,
    /// Where a bounded reader ends, and where it is.
    pub targets: Positions,
    pub at: Positions,
    /// Messages, the number of the assignment, and how many of the messages were handed out before.
    chunks: VecDeque<(Arc<Messages>, u64, usize)>,
    /// Positions behind the parts of chunks that were handed out and are not committed, oldest first.
    used: VecDeque<Positions>,
    /// When partitions were assigned last.
    given: Option<Instant>,
    /// Partitions were taken away, and the next assignment has not come.
    between: bool,
    /// Since when this member waits for messages.
    waits: Option<Instant>,
    error: Option<Error>,
}

pub(super) struct Shared {
    pub state: Mutex<State>,
    /// Something has changed: a chunk came or went, or was used.
    pub changed: Condvar,
    pub stop: AtomicBool,
}

pub(super) struct Member {
    watch: Watch,
    shared: Arc<Shared>,
    connection: Connection,
    starts: Starts,
    /// The topics at the time of joining.
    first: BTreeSet<String>,
    group: String,
    bounded: bool,
    fail_on_data_loss: bool,
}

pub(crate) struct GroupReader {
    shared: Arc<Shared>,
    /// None only while it is closed.
    consumer: Option<Arc<BaseConsumer<Member>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    bounded: bool,
    said: Option<Instant>,
    what: String,
}

impl Drop for GroupReader {
    fn drop(&mut self) {
        // The thread closes the consumer.
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }
}

fn listed(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    partitions.elements().iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect()
}

fn native(positions: &Positions) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (tp, offset) in positions {
        // Fails only for invalid offsets.
        let _ = list.add_partition_offset(tp.topic.as_str(), tp.partition.0, NativeOffset::Offset(offset.0));
    }
    list
}

watched!(Member);

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: Native, partitions: &mut TopicPartitionList) {
        let step_by_step = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let result = if event == Native::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // If the starts are not known, librdkafka's own list is assigned, because the group waits for an assignment.
            let placed = self.place(consumer, partitions).map_err(|e| self.shared.fail(e));
            let list = placed.as_ref().unwrap_or(partitions);
            if step_by_step { consumer.incremental_assign(list) } else { consumer.assign(list) }
        } else {
            self.give_up(&listed(partitions));
            if step_by_step { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
        };
        if let Err(e) = result {
            log::debug!(target: "bayou::kafka", "rebalance of the group '{}': {e}", self.group);
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(TURN)
    }
}

impl Member {
    /// Sets where new partitions start: at the group's offset, or where the user says. The start is committed at once, so that a different
    /// member that gets the partition starts at the same place.
    fn place(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) -> Result<TopicPartitionList> {
        let all = listed(partitions);
        let what = format!("joining the group '{}' on {}", self.group, self.connection.address());
        let asked = consumer.committed_offsets(partitions.clone(), REQUEST);
        let asked =
            asked.map_err(|e| group_error(&what, e.rdkafka_error_code().unwrap_or(Code::Unknown), &e.to_string()))?;
        let mut at = Positions::new();
        for e in asked.elements() {
            match (e.error(), e.offset()) {
                (Err(e), _) => {
                    let code = e.rdkafka_error_code().unwrap_or(Code::Unknown);
                    return Err(group_error(&what, code, &e.to_string()));
                }
                (Ok(()), NativeOffset::Offset(offset)) => {
                    at.insert(TopicPartition::new(e.topic(), e.partition()), Offset(offset));
                }
                _ => {}
            }
        }
        let new: Vec<TopicPartition> = all.iter().filter(|tp| !at.contains_key(tp)).cloned().collect();
        if !new.is_empty() {
            // Partitions that were added later, and topics that matched the pattern later, are read from their start.
            let known = self.connection.group_offsets(&self.group).unwrap_or_default();
            let (grown, first): (Vec<_>, Vec<_>) = new
                .into_iter()
                .partition(|tp| known.keys().any(|k| k.topic == tp.topic) || !self.first.contains(tp.topic.as_str()));
            let mut starts = if first.is_empty() { Positions::new() } else { (self.starts)(&first)? };
            let grown: Vec<_> = grown.into_iter().map(|tp| (tp, OffsetSpec::Earliest)).collect();
            starts.extend(self.connection.list_offsets(&grown)?);
            let _ = consumer.commit(&native(&starts), CommitMode::Async);
            at.extend(starts);
        }
        let ends: Vec<_> = all.iter().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
        let ends = self.connection.list_offsets(&ends)?;
        for (tp, end) in &ends {
            if at.get(tp).is_some_and(|at| at > end) {
                if self.fail_on_data_loss {
                    return Err(Error::data_loss(format!(
                        "{what}: {tp} ends at {}, and the group's offset is {}: the topic was recreated, or its log was cut. To read the partition \
                         from its start, use fail_on_data_loss=False; or move the group: reset_group(\"{}\", to=…, confirm=True).",
                        end.0, at[tp].0, self.group
                    ))
                    .in_partition(tp.topic.as_str(), tp.partition.0));
                }
                at.insert(tp.clone(), Offset(0));
            }
        }
        if !self.fail_on_data_loss {
            raise_to_first(&self.connection, &mut at)?;
        }
        let targets = if self.bounded { ends } else { Positions::new() };
        let placed = native(&at);
        let mut state = self.shared.state.lock();
        state.assigned += 1;
        let number = state.assigned;
        state.given = Some(Instant::now());
        state.between = false;
        state.owned.extend(all.into_iter().map(|tp| (tp, number)));
        state.targets.extend(targets);
        state.at.extend(at);
        drop(state);
        self.shared.changed.notify_all();
        Ok(placed)
    }

    /// Gives partitions to other members. What was used is committed first; the chunk that is being used gets a moment.
    fn give_up(&self, gone: &[TopicPartition]) {
        let mut state = self.shared.state.lock();
        state.between = true;
        // No more messages of these partitions are handed out.
        for tp in gone {
            state.owned.remove(tp);
        }
        let deadline = Instant::now() + USED;
        while gone.iter().any(|tp| state.used.iter().any(|u| u.contains_key(tp)))
            && !self.shared.stop.load(Ordering::Relaxed)
        {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        for tp in gone {
            state.targets.remove(tp);
            state.at.remove(tp);
            for used in &mut state.used {
                used.remove(tp);
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn fail(&self, error: Error) {
        self.state.lock().error.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits until there is room for a chunk. Returns false if there is none within `wait`.
    fn room(&self, wait: Duration) -> bool {
        let mut state = self.state.lock();
        let deadline = Instant::now() + wait;
        while state.chunks.len() >= CHUNKS {
            if self.stop.load(Ordering::Relaxed) || self.changed.wait_until(&mut state, deadline).timed_out() {
                return state.chunks.len() < CHUNKS;
            }
        }
        true
    }
}

fn group_error(what: &str, code: Code, text: &str) -> Error {
    match code {
        Code::GroupAuthorizationFailed => {
            Error::acl(format!("{what}: these credentials have no READ permission on the group"))
        }
        Code::TopicAuthorizationFailed => {
            Error::acl(format!("{what}: these credentials have no READ permission on the topic"))
        }
        Code::FencedInstanceId => Error::concurrent_query(format!(
            "{what}: a different member now has the same group.instance.id. Give each member its own group.instance.id."
        )),
        Code::InconsistentGroupProtocol => Error::config(format!(
            "{what}: the other members assign partitions in a way that this member does not know. Set partition.assignment.strategy in connect() to \
             the strategy of the others (cooperative-sticky, or range,roundrobin)."
        )),
        code => failed(what, code, text),
    }
}

impl GroupReader {
    pub(crate) fn join(connection: &Connection, options: &GroupOptions) -> Result<Self> {
        connection.check_groups()?;
        let defaults = [
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "45000"),
            ("queued.max.messages.kbytes", "32768"),
            ("fetch.wait.max.ms", "100"),
            ("receive.message.max.bytes", "536870912"),
            ("socket.nagle.disable", "true"),
        ];
        let reset = if options.fail_on_data_loss { "error" } else { "earliest" };
        let over = [
            ("group.id", options.group.as_str()),
            ("allow.auto.create.topics", "false"),
            ("auto.offset.reset", reset),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "false"),
            ("isolation.level", "read_committed"),
        ];
        let what = format!("joining the group '{}' on {}", options.group, connection.address());
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), stop: AtomicBool::new(false) });
        let member = Member {
            watch: connection.watch(),
            shared: shared.clone(),
            connection: connection.clone(),
            starts: options.starts.clone(),
            first: options.topics.clone(),
            group: options.group.clone(),
            bounded: options.bounded,
            fail_on_data_loss: options.fail_on_data_loss,
        };
        let consumer: BaseConsumer<Member> = connection
            .config_with_defaults(&defaults, &over)
            .create_with_context(member)
            .map_err(|e| connection.error(&what, &e))?;
        subscribe(&consumer, &options.topics).map_err(|e| connection.error(&what, &e))?;
        let consumer = Arc::new(consumer);
        let (theirs, state, most) = (consumer.clone(), shared.clone(), options.max_message_bytes);
        let look = options.look.clone().filter(|_| !options.bounded);
        let mut pattern = look.map(|look| Pattern::new(look, options.topics.clone()));
        let mut ends = options.bounded.then(|| Ends::new(shared.clone(), options.fail_on_data_loss));
        let interval = connection.property(&["max.poll.interval.ms"]).and_then(|ms| ms.parse().ok()).unwrap_or(300_000);
        let full = FULL.min(Duration::from_millis(interval) / 3);
        let thread = std::thread::Builder::new()
            .name("bayou-group".into())
            .spawn(move || read(&theirs, &state, full, most, &mut pattern, &mut ends))
            .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
        let what = format!("reading in the group '{}' from {}", options.group, connection.address());
        Ok(Self { shared, consumer: Some(consumer), thread: Some(thread), bounded: options.bounded, said: None, what })
    }

    /// The next messages, within `wait`, at most `most`.
    pub(crate) fn next(&mut self, wait: Duration, most: usize) -> Result<Chunk> {
        let mut state = self.shared.state.lock();
        let deadline = Instant::now() + wait;
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if let Some((messages, number, from)) = state.chunks.pop_front() {
                let until = messages.len().min(from.saturating_add(most.max(1)));
                if until < messages.len() {
                    state.chunks.push_front((messages.clone(), number, until));
                }
                // A partition that went to a different member meanwhile is read by that member.
                let ours: Vec<bool> =
                    messages.partitions.iter().map(|tp| state.owned.get(tp).is_some_and(|n| *n <= number)).collect();
                let all = from as u32..until as u32;
                let wanted: Vec<u32> = all.filter(|i| ours[messages.sources[*i as usize] as usize]).collect();
                let mut used = Positions::new();
                for i in &wanted {
                    let i = *i as usize;
                    used.insert(messages.source(i).clone(), Offset(messages.offsets[i] + 1));
                }
                state.used.push_back(used);
                state.waits = None;
                drop(state);
                self.said = None;
                self.shared.changed.notify_all();
                return Ok(Chunk::Messages(messages, wanted));
            }
            let read_all = |(tp, end): (&TopicPartition, &Offset)| state.at.get(tp).is_some_and(|at| at >= end);
            if !state.targets.is_empty() && state.targets.iter().all(read_all) {
                return Ok(Chunk::Finished);
            }
            // A bounded member of a group with more members than partitions gets no partition.
            if self.bounded
                && state.owned.is_empty()
                && !state.between
                && state.given.is_some_and(|at| at.elapsed() >= NOTHING)
            {
                return Ok(Chunk::Finished);
            }
            let since = *state.waits.get_or_insert_with(Instant::now);
            if self.bounded && self.said.unwrap_or(since).elapsed() >= QUIET {
                self.said = Some(Instant::now());
                log::warn!("{}", quiet(&self.what, &state, since.elapsed()));
            }
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return Ok(Chunk::Nothing);
            }
        }
    }

    /// Commits the offsets of the oldest `parts` that were handed out, for partitions that are still this member's. The messages of these parts
    /// were used. `wait`: waits until the broker has answered.
    pub(crate) fn commit(&mut self, parts: usize, wait: bool) {
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        let mut state = self.shared.state.lock();
        let mut used = Positions::new();
        for _ in 0..parts {
            used.extend(state.used.pop_front().unwrap_or_default());
        }
        let Some(consumer) = self.consumer.as_ref().filter(|_| !used.is_empty()) else {
            drop(state);
            self.shared.changed.notify_all();
            return;
        };
        // Within the lock, so that a rebalance that waits for the lock finds the commit. A commit that waits for the broker must not hold the lock.
        let held = (!wait).then_some(state);
        if let Err(e) = consumer.commit(&native(&used), mode) {
            log::debug!(target: "bayou::kafka", "a commit was refused, and the messages come again: {e}");
        }
        drop(held);
        self.shared.changed.notify_all();
    }

    /// Leaves the group. Messages that were not used come again, to a different member.
    pub(crate) fn leave(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread polls in short turns.
            let _ = thread.join();
        }
        // Leaving asks the coordinator, which may not answer.
        let consumer = self.consumer.take();
        let (say, left) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(consumer);
            let _ = say.send(());
        });
        let _ = left.recv_timeout(USED);
    }
}

/// The message of a bounded member that gets no messages. Kafka may not be reachable, or the group may be between two
/// assignments.
fn quiet(what: &str, state: &State, waited: Duration) -> String {
    let unread = |(tp, end): &(&TopicPartition, &Offset)| state.at.get(tp).is_none_or(|at| at < end);
    let first = state.targets.iter().find(unread);
    let place = first.map_or_else(
        || "no partition has been assigned".to_string(),
        |(tp, end)| {
            let at = state.at.get(tp).map_or_else(|| "an unknown offset".to_string(), |at| at.0.to_string());
            format!("{tp} is at {at} and is read until {}", end.0)
        },
    );
    format!(
        "{what}: nothing has come for {} seconds; {place}. To stop waiting after some time, use timeout=.",
        waited.as_secs()
    )
}

pub(super) fn subscribe(consumer: &BaseConsumer<Member>, topics: &BTreeSet<String>) -> rdkafka::error::KafkaResult<()> {
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Polls until the reader is stopped.
fn read(
    consumer: &BaseConsumer<Member>,
    shared: &Shared,
    full: Duration,
    max_message_bytes: usize,
    pattern: &mut Option<Pattern>,
    ends: &mut Option<Ends>,
) {
    let mut paused = false;
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(pattern) = pattern {
            pattern.follow(consumer);
        }
        let room = shared.room(if paused { Duration::ZERO } else { full });
        if (!room || paused)
            && let Ok(all) = consumer.assignment()
        {
            // Without room, the chunk that is being used takes long: the member stays in the group, without messages.
            let _ = if room { consumer.resume(&all) } else { consumer.pause(&all) };
        }
        paused = !room;
        if let Some(ends) = ends {
            ends.follow(&consumer.context().connection, paused);
        }
        // A partition that was assigned after the pause may still give a message.
        chunk(consumer, shared, if paused { 1 } else { CHUNK_ROWS }, max_message_bytes);
    }
}

/// Gathers the messages that are there into one chunk.
fn chunk(consumer: &BaseConsumer<Member>, shared: &Shared, most: usize, max_message_bytes: usize) {
    let mut partitions: Vec<TopicPartition> = vec![];
    let mut rows: Vec<(u32, BorrowedMessage<'_>)> = vec![];
    let (mut bytes, mut wait) = (0, TURN);
    while rows.len() < most && bytes < CHUNK_BYTES && !shared.stop.load(Ordering::Relaxed) {
        match consumer.poll(wait) {
            None => break,
            Some(Err(e)) => {
                report(consumer, shared, &e);
                break;
            }
            Some(Ok(message)) => {
                wait = Duration::ZERO;
                bytes += message.payload_len() + message.key_len();
                let is =
                    |tp: &TopicPartition| tp.partition.0 == message.partition() && tp.topic.as_str() == message.topic();
                let source = match rows.last() {
                    Some((last, _)) if is(&partitions[*last as usize]) => *last as usize,
                    _ => partitions.iter().position(is).unwrap_or_else(|| {
                        partitions.push(TopicPartition::new(message.topic(), message.partition()));
                        partitions.len() - 1
                    }),
                };
                rows.push((source as u32, message));
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    // A message has arrived, so earlier reports of refused logins do not count any more.
    consumer.context().watch.forget();
    let mut out = Messages::new(partitions.into());
    for (source, message) in &rows {
        let headers: Headers = message.headers().map_or_else(Vec::new, |all| {
            all.iter().map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect()
        });
        let (timestamp, timestamp_type) = match message.timestamp() {
            Timestamp::NotAvailable => (-1, TimestampType::NotAvailable),
            Timestamp::CreateTime(ms) => (ms, TimestampType::CreateTime),
            Timestamp::LogAppendTime(ms) => (ms, TimestampType::LogAppendTime),
        };
        let header_bytes = crate::batch::bytes_of_headers(&headers);
        let (key, value, offset) = (message.key(), message.payload(), message.offset());
        let message = Message { source: *source, offset, timestamp, timestamp_type, key, value, headers, header_bytes };
        out.push(message, max_message_bytes);
    }
    let mut state = shared.state.lock();
    for i in 0..out.len() {
        let tp = out.source(i);
        if let Some(at) = state.at.get_mut(tp) {
            *at = (*at).max(Offset(out.offsets[i] + 1));
        }
    }
    let number = state.assigned;
    state.chunks.push_back((Arc::new(out), number, 0));
    drop(state);
    shared.changed.notify_all();
}

/// Errors that pass by themselves are left to librdkafka.
fn report(consumer: &BaseConsumer<Member>, shared: &Shared, error: &KafkaError) {
    let member = consumer.context();
    let address = member.connection.address();
    let what = format!("reading in the group '{}' from {address}", member.group);
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    let text = member.connection.secrets().scrub(&error.to_string());
    let refused = kind_of(code) == Kind::Auth || code == Code::AllBrokersDown;
    if refused && member.watch.seen().auth.is_some() {
        return shared.fail(member.watch.seen().unreachable(address));
    }
    match code {
        Code::AutoOffsetReset => shared.fail(Error::data_loss(format!(
            "{what}: the messages at the group's offset do not exist any more ({text}). To continue with the earliest messages that exist, use \
             fail_on_data_loss=False; or move the group: reset_group(\"{}\", to=…, confirm=True).",
            member.group
        ))),
        Code::Fatal => {
            let (code, text) = consumer.client().fatal_error().unwrap_or((code, text));
            shared.fail(group_error(&what, code, &text));
        }
        code if kind_of(code) != Kind::Connection || code == Code::FencedInstanceId || code == Code::InconsistentGroupProtocol => {
            shared.fail(group_error(&what, code, &text));
        }
        _ => log::debug!(target: "bayou::kafka", "{what}: {text}"),
    }
}
