//! Reads messages from given offsets on, in batches, on a thread of its own.
//!
//! This module calls librdkafka directly (in `native`), for three reasons. rust-rdkafka hands out one message at a
//! time. Its end-of-partition error contains neither topic nor offset. The `Drop` of its consumer waits without a
//! deadline. Payloads are copied at once, so no memory of librdkafka outlives the call that returned it.

mod divergence;
mod ends;
mod group;
mod native;
mod pattern;

use super::{
    Connection,
    context::{failed, kind_of, meant},
};
use crate::{
    batch::{MAX_MESSAGE_BYTES, Message, Messages},
    error::{Error, Kind, Result},
    position::{Offset, Positions, TopicPartition},
};
pub(crate) use group::{Chunk, GroupOptions, GroupReader, Look};
use native::{Entry, NativeClient, Room, TopicHandle};
use parking_lot::{Condvar, Mutex};
use rdkafka::types::RDKafkaErrorCode as Code;
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    time::{Duration, Instant},
};

#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// At most this many messages in one `Event::Messages`.
    pub chunk_messages: usize,
    /// A chunk is handed on when it has this many bytes.
    pub chunk_bytes: usize,
    /// At most this many chunks wait for the consumer of the reader, and at most as many bytes as in this many full
    /// chunks. Then the thread waits.
    pub queue_chunks: usize,
    /// A larger key or value, or larger headers of a message in total, are not copied. The message then contains the
    /// size.
    pub max_message_bytes: usize,
    /// librdkafka properties that override those of the connection and of the reader.
    pub properties: BTreeMap<String, String>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            chunk_messages: 16_384,
            chunk_bytes: 8 << 20,
            queue_chunks: 8,
            max_message_bytes: MAX_MESSAGE_BYTES,
            properties: BTreeMap::new(),
        }
    }
}

// Nearly all events are messages. A box would be one more allocation for each of them.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Event {
    Messages(Messages),
    /// Everything up to the current end has been handed out. `next` is the next offset to read, after transaction
    /// markers.
    EndOfPartition {
        partition: TopicPartition,
        next: Offset,
    },
    /// A broker refuses the TLS handshake, or this client refuses the broker's certificate.
    Refused(String),
    /// The offset to read does not exist (any more): retention, a truncated log, or a recreated topic. The partition is
    /// not read further until it is assigned again.
    OutOfRange {
        partition: TopicPartition,
        wanted: Offset,
        /// A leader said that its log differs from some earlier offset on.
        truncated: bool,
    },
    /// The records from here on were written under this leader. Earlier records can be lost together with the previous
    /// leader.
    LeaderEpoch {
        partition: TopicPartition,
        epoch: i32,
    },
    /// Information for a person. Reading continues.
    Warning(String),
}

/// Reads partitions from given offsets. Dropping the reader stops it, without waiting for a dead broker.
pub struct Reader {
    connection: Connection,
    events: Option<Receiver<Result<Event>>>,
    shared: Arc<Shared>,
    /// Reports that librdkafka's client is closed.
    closed: Receiver<()>,
}

struct Shared {
    stop: AtomicBool,
    /// Partitions that the thread must add.
    wanted: Mutex<Positions>,
    has_wanted: AtomicBool,
    /// The number of bytes of messages that wait for the consumer of the reader, and a signal that some were taken.
    waiting: Mutex<usize>,
    taken: Condvar,
}

/// The longest wait inside librdkafka. It ends early only when the batch is full. So it is also the time that a message
/// waits for its chunk, and the time until the thread notices a stop.
const TURN: Duration = Duration::from_millis(10);
/// `stop` waits this long for the client to close. The client of a dead broker closes later, on its own thread.
const CLOSE: Duration = Duration::from_millis(700);
/// The same warning is reported at most once in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Reader {
    pub fn start(connection: &Connection, from: &Positions, options: &ReaderOptions) -> Result<Self> {
        connection.check_fork()?;
        let client = NativeClient::new(connection, options)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            wanted: Mutex::new(from.clone()),
            has_wanted: AtomicBool::new(!from.is_empty()),
            waiting: Mutex::default(),
            taken: Condvar::new(),
        });
        let (sender, events) = sync_channel(options.queue_chunks.max(1));
        let (say_closed, closed) = channel();
        let worker = Worker {
            client: Arc::new(client),
            shared: shared.clone(),
            events: sender,
            partitions: Arc::from([]),
            sources: Vec::new(),
            by_topic: FxHashMap::default(),
            last_topic: (TopicHandle::NONE, -1, 0),
            chunk: Messages::default(),
            chunk_messages: options.chunk_messages.max(1),
            chunk_bytes: options.chunk_bytes.max(1),
            queue_bytes: options.chunk_bytes.max(1).saturating_mul(options.queue_chunks.max(1)),
            max_message_bytes: options.max_message_bytes,
            warned: FxHashMap::default(),
            address: connection.address().to_string(),
        };
        std::thread::Builder::new()
            .name("bayou-reader".into())
            .spawn(move || {
                worker.run();
                // If the reader was dropped and has stopped waiting, no thread receives this.
                let _ = say_closed.send(());
            })
            .map_err(|e| Error::internal(format!("the reader's thread does not start: {e}")))?;
        Ok(Self { connection: connection.clone(), events: Some(events), shared, closed })
    }

    /// The event that arrived within `wait`, or None. The order within a partition is kept.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        self.connection.check_fork()?;
        let ended = || Error::internal("the reader has ended. Start a new one.");
        match self.events.as_ref().ok_or_else(ended)?.recv_timeout(wait) {
            Ok(Ok(event)) => {
                if let Event::Messages(messages) = &event {
                    *self.shared.waiting.lock() -= messages.bytes();
                    self.shared.taken.notify_one();
                }
                Ok(Some(event))
            }
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Adds these partitions. A partition that is being read continues unchanged. A partition that was out of range
    /// starts again.
    pub fn assign(&mut self, positions: &Positions) -> Result<()> {
        self.connection.check_fork()?;
        self.shared.wanted.lock().extend(positions.iter().map(|(tp, o)| (tp.clone(), *o)));
        self.shared.has_wanted.store(true, Ordering::Release);
        Ok(())
    }

    /// Stops reading within a second.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // This wakes a thread that waits for room in the queue, so that it sees that no thread takes events any more.
        if self.events.take().is_some() && self.connection.check_fork().is_ok() {
            let _ = self.closed.recv_timeout(CLOSE);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.close();
    }
}

/// The state of one partition in the thread.
struct Source {
    /// The next offset. A record below it has been handed out before, because librdkafka can repeat some records.
    expected: i64,
    reading: bool,
    /// The leader epoch of the last record. −1 before the first record.
    leader_epoch: i32,
}

impl Source {
    fn at(offset: Offset) -> Self {
        Self { expected: offset.0, reading: true, leader_epoch: -1 }
    }
}

/// No thread receives events any more.
struct Gone;

struct Worker {
    client: Arc<NativeClient>,
    shared: Arc<Shared>,
    events: SyncSender<Result<Event>>,
    partitions: Arc<[TopicPartition]>,
    sources: Vec<Source>,
    /// From the handle to the index in `sources`.
    by_topic: FxHashMap<(TopicHandle, i32), u32>,
    last_topic: (TopicHandle, i32, u32),
    chunk: Messages,
    chunk_messages: usize,
    chunk_bytes: usize,
    queue_bytes: usize,
    max_message_bytes: usize,
    warned: FxHashMap<String, Instant>,
    address: String,
}

impl Worker {
    fn run(mut self) {
        let mut room = Room::of(self.chunk_messages.min(8192));
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.turn(&mut room).is_err() {
                break;
            }
        }
    }

    fn turn(&mut self, room: &mut Room) -> Result<(), Gone> {
        if self.shared.has_wanted.swap(false, Ordering::AcqRel) {
            self.take_on()?;
        }
        let client = self.client.clone();
        let count = client.poll(room, TURN, |entry| self.take(entry))?;
        for (code, text) in client.spoken() {
            self.hear(code, text)?;
        }
        // The batch is not full, so there are no more messages at the moment.
        if count < room.len() {
            self.hand_on()?;
        }
        Ok(())
    }

    fn take_on(&mut self) -> Result<(), Gone> {
        let wanted = std::mem::take(&mut *self.shared.wanted.lock());
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        let mut partitions = self.partitions.to_vec();
        for (tp, offset) in wanted {
            match partitions.iter().position(|known| *known == tp) {
                Some(i) if self.sources[i].reading => {}
                Some(i) => {
                    self.sources[i] = Source::at(offset);
                    again.push((tp, offset.0));
                }
                None => {
                    partitions.push(tp.clone());
                    self.sources.push(Source::at(offset));
                    fresh.push((tp, offset.0));
                }
            }
        }
        // Chunks refer to partitions by index. The unfinished chunk uses the old list, so it is handed out first.
        self.hand_on()?;
        self.partitions = partitions.into();
        for (list, again) in [(fresh, false), (again, true)] {
            if !list.is_empty() {
                self.client.assign(&list, again).or_else(|e| self.send(Err(e)))?;
            }
        }
        Ok(())
    }

    #[inline]
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), Gone> {
        if let Some(code) = entry.error() {
            return self.take_error(entry, code);
        }
        let Some(index) = self.source(entry) else { return Ok(()) };
        let source = &mut self.sources[index as usize];
        if entry.offset() < source.expected || !source.reading {
            return Ok(());
        }
        source.expected = entry.offset() + 1;
        let epoch = entry.leader_epoch();
        if epoch != source.leader_epoch {
            self.new_leader(index, epoch)?;
        }
        if self.chunk.is_empty() {
            self.chunk.partitions = self.partitions.clone();
        }
        let (timestamp, timestamp_type) = entry.timestamp();
        let (headers, header_bytes) = entry.headers(self.max_message_bytes);
        let message = Message {
            source: index,
            offset: entry.offset(),
            timestamp,
            timestamp_type,
            key: entry.key(),
            value: entry.value(),
            headers,
            header_bytes,
        };
        self.chunk.push(message, self.max_message_bytes);
        if self.chunk.len() >= self.chunk_messages || self.chunk.bytes() >= self.chunk_bytes {
            self.hand_on()?;
        }
        Ok(())
    }

    #[cold]
    fn new_leader(&mut self, index: u32, epoch: i32) -> Result<(), Gone> {
        self.sources[index as usize].leader_epoch = epoch;
        // Earlier records were written under the previous leader.
        self.hand_on()?;
        let partition = self.partitions[index as usize].clone();
        self.send(Ok(Event::LeaderEpoch { partition, epoch }))
    }

    /// End of partition, offsets out of range, and all errors.
    #[cold]
    fn take_error(&mut self, entry: &Entry<'_>, code: Code) -> Result<(), Gone> {
        let text = entry.error_text();
        let code = meant(code, &text);
        let Some(index) = self.source(entry) else {
            // An error without a partition concerns the group. No group is ever joined, and the ACL for it may be
            // missing.
            return match kind_of(code) {
                Kind::Auth | Kind::Topic => self.fail(code, &text),
                _ => {
                    log::debug!(target: "bayou::kafka", "an error about a consumer group, which this reader does not join: {text}");
                    Ok(())
                }
            };
        };
        let partition = self.partitions[index as usize].clone();
        let source = &mut self.sources[index as usize];
        match code {
            Code::PartitionEOF => {
                source.expected = source.expected.max(entry.offset());
                let next = Offset(source.expected);
                self.hand_on()?;
                self.send(Ok(Event::EndOfPartition { partition, next }))
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                if !std::mem::replace(&mut source.reading, false) {
                    return Ok(());
                }
                let wanted = Offset(source.expected);
                let truncated = code == Code::LogTruncation || divergence::is_truncation(&text);
                self.hand_on()?;
                self.send(Ok(Event::OutOfRange { partition, wanted, truncated }))
            }
            Code::BadMessage
            | Code::BadCompression
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::Underflow => {
                let offset = if entry.offset() >= 0 { entry.offset() } else { source.expected };
                self.hand_on()?;
                self.send(Err(Error::data_loss(format!(
                    "{partition} offset {offset} cannot be read: {text}. The broker's copy is damaged{}, and nothing \
                     is skipped. Restore a good copy (a replica, a backup) and run the query again. To continue \
                     without the record, start over with full_refresh=True and starting_offsets after it (an iterator: without name=).",
                    match code {
                        // For a batch that is compressed with zstd, librdkafka gives no further details.
                        Code::BadCompression => {
                            ", or it unpacks to more than connect's receive.message.max.bytes (512 MiB) allows"
                        }
                        _ => "",
                    }
                ))))
            }
            code if matches!(kind_of(code), Kind::Topic | Kind::Acl | Kind::Auth) || code == Code::Fatal => {
                self.hand_on()?;
                self.send(Err(failed(&format!("reading {partition} from {}", self.address), code, &text)))
            }
            _ => self.warn(format!("{partition}: {text}")),
        }
    }

    /// The error concerns a broker, or a topic that is gone. The text names the topic.
    fn hear(&mut self, code: Code, text: String) -> Result<(), Gone> {
        // The reader joins no group, so texts about a group's coordinator are ignored.
        if text.starts_with("GroupCoordinator") || text.contains("FindCoordinator") {
            return Ok(());
        }
        let code = meant(code, &text);
        match code {
            // A handshake can also fail because the broker is stopping, or because its certificate is being replaced.
            Code::SSL => {
                self.hand_on()?;
                self.send(Ok(Event::Refused(text)))
            }
            Code::Fatal => self.fail(code, &text),
            _ if matches!(kind_of(code), Kind::Auth | Kind::Acl | Kind::Topic) => self.fail(code, &text),
            Code::AllBrokersDown => self.warn(format!("no broker of {} answers; waiting for a broker", self.address)),
            _ => self.warn(text),
        }
    }

    fn fail(&mut self, code: Code, text: &str) -> Result<(), Gone> {
        self.hand_on()?;
        self.send(Err(failed(&format!("reading from {}", self.address), code, text)))
    }

    fn warn(&mut self, text: String) -> Result<(), Gone> {
        let now = Instant::now();
        if self.warned.get(&text).is_some_and(|at| now - *at < WARN_EVERY) {
            return Ok(());
        }
        if self.warned.len() > 100 {
            self.warned.clear();
        }
        self.warned.insert(text.clone(), now);
        self.send(Ok(Event::Warning(text)))
    }

    /// The index of the entry's partition. It is found by librdkafka's handle, so no name is compared for each message.
    #[inline]
    fn source(&mut self, entry: &Entry<'_>) -> Option<u32> {
        let (topic, partition, index) = self.last_topic;
        if entry.topic() == topic && entry.partition() == partition && topic != TopicHandle::NONE {
            return Some(index);
        }
        self.find_source(entry)
    }

    fn find_source(&mut self, entry: &Entry<'_>) -> Option<u32> {
        let place = (entry.topic(), entry.partition());
        let index = match self.by_topic.get(&place) {
            Some(index) => *index,
            None => {
                let wanted = TopicPartition::new(entry.topic_name()?, entry.partition());
                let index = self.partitions.iter().position(|tp| *tp == wanted)? as u32;
                self.by_topic.insert(place, index);
                index
            }
        };
        self.last_topic = (place.0, place.1, index);
        Some(index)
    }

    fn hand_on(&mut self) -> Result<(), Gone> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        // The next chunk will have about the same size. An arena that grows in steps would be copied several times.
        let mut next = Messages::new(self.partitions.clone());
        next.arena.reserve(self.chunk.arena.len().min(2 * self.chunk_bytes));
        next.offsets.reserve(self.chunk.len());
        let chunk = std::mem::replace(&mut self.chunk, next);
        let bytes = chunk.bytes();
        let mut waiting = self.shared.waiting.lock();
        while *waiting > 0 && *waiting + bytes > self.queue_bytes {
            if self.shared.stop.load(Ordering::Acquire) {
                return Err(Gone);
            }
            self.shared.taken.wait_for(&mut waiting, TURN);
        }
        *waiting += bytes;
        drop(waiting);
        self.send(Ok(Event::Messages(chunk)))
    }

    /// Waits while the queue is full. Ends when the reader is gone.
    fn send(&self, event: Result<Event>) -> Result<(), Gone> {
        self.events.send(event).map_err(|_| Gone)
    }
}
