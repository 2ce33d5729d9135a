//! Messages from given offsets on, a batch at a time, on a thread of its own.
//!
//! librdkafka is called directly: rust-rdkafka hands out one message at a time, its end-of-partition error names neither topic
//! nor offset, and its consumer's `Drop` waits without a deadline. Payloads are copied at once, so nothing of librdkafka's
//! outlives the call that returned it.

#![allow(unsafe_code)]

use super::{
    Connection,
    context::{failed, kind_of, tidy},
    ffi::{code_text, text_of},
    properties::Secrets,
};
use crate::{
    batch::{Headers, Messages, TimestampType},
    error::{Error, Kind, Result},
    position::{Offset, Positions, TopicPartition},
};
use parking_lot::Mutex;
use rdkafka::{
    bindings::{self as rd, rd_kafka_resp_err_t as Native},
    types::RDKafkaErrorCode as Code,
};
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeMap,
    ffi::{CString, c_char, c_int, c_void},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    time::{Duration, Instant},
};

#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// At most so many messages in one `Event::Messages`.
    pub chunk_messages: usize,
    /// A chunk is handed on when it holds so many bytes.
    pub chunk_bytes: usize,
    /// So many chunks wait for the reader's user; then the thread waits.
    pub queue_chunks: usize,
    /// librdkafka properties over those of the connection and of the reader.
    pub properties: BTreeMap<String, String>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { chunk_messages: 16_384, chunk_bytes: 8 << 20, queue_chunks: 8, properties: BTreeMap::new() }
    }
}

#[derive(Debug)]
pub enum Event {
    Messages(Messages),
    /// All there is for now has been handed out; `next` is the offset to read next, transaction markers included.
    EndOfPartition {
        partition: TopicPartition,
        next: Offset,
    },
    /// The offset to be read does not exist (any more): retention, a truncated log, a recreated topic. The partition is read
    /// no further until it is assigned again.
    OutOfRange {
        partition: TopicPartition,
        wanted: Offset,
    },
    /// Something a person may want to know; reading goes on.
    Warning(String),
}

/// Reads partitions from given offsets. Dropping it stops it, without waiting for a dead broker.
pub struct Reader {
    connection: Connection,
    events: Option<Receiver<Result<Event>>>,
    shared: Arc<Shared>,
    /// Says that librdkafka's client is closed.
    closed: Receiver<()>,
}

struct Shared {
    stop: AtomicBool,
    /// Partitions that the thread is to take on.
    wanted: Mutex<Positions>,
    has_wanted: AtomicBool,
}

/// How long one wait inside librdkafka may be: it only comes back early when the batch is full, so this is also how long a
/// message waits for its chunk, and how soon the thread sees that it is to stop.
const TURN: Duration = Duration::from_millis(10);
/// `stop` waits so long for the client to close; a dead broker's client closes later, on its own thread.
const CLOSE: Duration = Duration::from_millis(700);
/// The same warning comes at most this often.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Reader {
    pub fn start(connection: &Connection, from: &Positions, options: &ReaderOptions) -> Result<Self> {
        connection.check_fork()?;
        let client = NativeClient::new(connection, options)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            wanted: Mutex::new(from.clone()),
            has_wanted: AtomicBool::new(!from.is_empty()),
        });
        let (sender, events) = sync_channel(options.queue_chunks.max(1));
        let (say_closed, closed) = channel();
        let worker = Worker {
            client,
            shared: shared.clone(),
            events: sender,
            partitions: Arc::from([]),
            sources: Vec::new(),
            by_topic: FxHashMap::default(),
            last_topic: (std::ptr::null_mut(), -1, 0),
            chunk: Messages::default(),
            chunk_messages: options.chunk_messages.max(1),
            chunk_bytes: options.chunk_bytes.max(1),
            warned: FxHashMap::default(),
            address: connection.address().to_string(),
        };
        std::thread::Builder::new()
            .name("bayou-reader".into())
            .spawn(move || {
                worker.run();
                // Nobody listens any more when the reader was dropped and has stopped waiting.
                let _ = say_closed.send(());
            })
            .map_err(|e| Error::internal(format!("The reader's thread does not start: {e}.")))?;
        Ok(Self { connection: connection.clone(), events: Some(events), shared, closed })
    }

    /// What came within `wait`; None when nothing did. Keeps the order within a partition.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        self.connection.check_fork()?;
        let ended = || Error::internal("The reader has ended; start another one.");
        match self.events.as_ref().ok_or_else(ended)?.recv_timeout(wait) {
            Ok(Ok(event)) => Ok(Some(event)),
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Reads these partitions as well. One that is being read is left as it is; one that was out of range starts again.
    pub fn assign(&mut self, positions: &Positions) -> Result<()> {
        self.connection.check_fork()?;
        self.shared.wanted.lock().extend(positions.iter().map(|(tp, o)| (tp.clone(), *o)));
        self.shared.has_wanted.store(true, Ordering::Release);
        Ok(())
    }

    /// Stops reading, within a second.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // A thread that waits for room in the queue sees that nobody takes from it any more.
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

/// What the error callback collects, under the client's opaque pointer.
struct Spoken {
    said: Mutex<Vec<(Code, String)>>,
    secrets: Secrets,
}

/// librdkafka's client and its queue of messages.
struct NativeClient {
    rk: *mut rd::rd_kafka_t,
    queue: *mut rd::rd_kafka_queue_t,
    spoken: *const Spoken,
}

// SAFETY: librdkafka's client and queues may be used from any thread; `Spoken` is Sync.
unsafe impl Send for NativeClient {}

unsafe extern "C" fn on_error(_: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Spoken` that lives until the client is destroyed; the code comes from librdkafka's own enum.
    let (spoken, reason) = unsafe { (&*opaque.cast::<Spoken>(), text_of(reason)) };
    let code = code_of(code);
    let text = tidy(&spoken.secrets.scrub(&reason));
    let mut said = spoken.said.lock();
    if said.len() < 64 {
        said.push((code, text));
    }
}

/// The callback gets an `int`: only the codes that the reader tells apart are turned back into the enum.
fn code_of(code: c_int) -> Code {
    [Code::AllBrokersDown, Code::Authentication, Code::SSL, Code::Fatal, Code::Resolve, Code::BrokerTransportFailure]
        .into_iter()
        .find(|known| *known as c_int == code)
        .unwrap_or(Code::Unknown)
}

unsafe extern "C" fn on_log(_: *const rd::rd_kafka_t, level: c_int, fac: *const c_char, text: *const c_char) {
    // SAFETY: both are C strings for the time of the call.
    let (fac, text) = unsafe { (text_of(fac), text_of(text)) };
    log::debug!(target: "bayou::kafka", "librdkafka {level} {fac}: {text}");
}

impl NativeClient {
    fn new(connection: &Connection, options: &ReaderOptions) -> Result<Self> {
        let defaults = [
            // Required for assignments; no group is ever joined. A name that is given is kept: its ACL may be the only one.
            ("group.id", "bayou"),
            // What librdkafka holds beyond our own queue; 64 MiB is half a second's worth.
            ("queued.max.messages.kbytes", "65536"),
            ("queued.min.messages", "500000"),
            ("fetch.message.max.bytes", "4194304"),
            // The last end-of-partition of a bounded run waits for this: 500 ms by default, half the speed on small topics.
            ("fetch.wait.max.ms", "10"),
            ("fetch.error.backoff.ms", "100"),
            ("fetch.queue.backoff.ms", "5"),
            ("reconnect.backoff.max.ms", "1000"),
            ("socket.nagle.disable", "true"),
        ];
        let mut over = vec![
            ("allow.auto.create.topics", "false"),
            ("auto.offset.reset", "error"),
            ("check.crcs", "true"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
        ];
        over.extend(options.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let what = format!("Reading from {}", connection.address());
        let config = connection.config_with_defaults(&defaults, &over);
        let config = config.create_native_config().map_err(|e| connection.error(&what, &e))?;
        let spoken = Box::into_raw(Box::new(Spoken { said: Mutex::default(), secrets: connection.secrets().clone() }));
        let mut text = [0 as c_char; 512];
        // SAFETY: the configuration is alive; rd_kafka_new takes it over when it succeeds, and then it must not be dropped.
        // `spoken` is freed after the client, or here when there is none.
        unsafe {
            rd::rd_kafka_conf_set_opaque(config.ptr(), spoken.cast());
            rd::rd_kafka_conf_set_error_cb(config.ptr(), Some(on_error));
            rd::rd_kafka_conf_set_log_cb(config.ptr(), Some(on_log));
            let rk =
                rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, config.ptr(), text.as_mut_ptr(), text.len());
            if rk.is_null() {
                drop(Box::from_raw(spoken));
                let text = connection.secrets().scrub(&text_of(text.as_ptr()));
                return Err(Error::config(format!("{what}: librdkafka refuses the properties: {text}.")));
            }
            std::mem::forget(config);
            rd::rd_kafka_poll_set_consumer(rk);
            Ok(Self { rk, queue: rd::rd_kafka_queue_get_consumer(rk), spoken })
        }
    }

    /// Starts (or restarts, when `again`) reading these partitions.
    fn assign(&self, positions: &[(TopicPartition, i64)], again: bool) -> Result<()> {
        // SAFETY: the list is ours and librdkafka copies it; errors are freed after reading.
        unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(positions.len() as c_int);
            for (tp, offset) in positions {
                let Ok(topic) = CString::new(tp.topic.as_str()) else { continue };
                (*rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), tp.partition.0)).offset = *offset;
            }
            let mut error = std::ptr::null_mut();
            if again {
                error = rd::rd_kafka_incremental_unassign(self.rk, list);
            }
            if error.is_null() {
                error = rd::rd_kafka_incremental_assign(self.rk, list);
            }
            rd::rd_kafka_topic_partition_list_destroy(list);
            if error.is_null() {
                return Ok(());
            }
            let (code, text) = (rd::rd_kafka_error_code(error), text_of(rd::rd_kafka_error_string(error)));
            rd::rd_kafka_error_destroy(error);
            Err(failed("Assigning partitions to the reader", code.into(), &text))
        }
    }

    fn spoken(&self) -> Vec<(Code, String)> {
        // SAFETY: freed only in `drop`.
        std::mem::take(&mut *unsafe { &*self.spoken }.said.lock())
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once, and the callbacks' data after the client. No group was joined, so there is
        // nothing to leave: closing would only wait for the coordinator.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue);
            rd::rd_kafka_destroy_flags(self.rk, rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            drop(Box::from_raw(self.spoken.cast_mut()));
        }
    }
}

/// One partition as the thread knows it.
struct Source {
    /// The next offset: a record below it has been handed out before (librdkafka may repeat some).
    expected: i64,
    reading: bool,
}

/// Nobody takes events any more.
struct Gone;

struct Worker {
    client: NativeClient,
    shared: Arc<Shared>,
    events: SyncSender<Result<Event>>,
    partitions: Arc<[TopicPartition]>,
    sources: Vec<Source>,
    /// librdkafka's topic pointer and the partition, to the index in `sources`.
    by_topic: FxHashMap<(*mut rd::rd_kafka_topic_t, i32), u32>,
    last_topic: (*mut rd::rd_kafka_topic_t, i32, u32),
    chunk: Messages,
    chunk_messages: usize,
    chunk_bytes: usize,
    warned: FxHashMap<String, Instant>,
    address: String,
}

// SAFETY: the topic pointers are only compared, and looked up while the client lives, which moves along.
unsafe impl Send for Worker {}

impl Worker {
    fn run(mut self) {
        let mut batch = vec![std::ptr::null_mut::<rd::rd_kafka_message_t>(); self.chunk_messages.min(8192)];
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.turn(&mut batch).is_err() {
                break;
            }
        }
    }

    fn turn(&mut self, batch: &mut [*mut rd::rd_kafka_message_t]) -> Result<(), Gone> {
        if self.shared.has_wanted.swap(false, Ordering::AcqRel) {
            self.take_on()?;
        }
        // SAFETY: the queue lives with the client, and `batch` has room for as many messages as it says.
        let count = unsafe {
            rd::rd_kafka_consume_batch_queue(
                self.client.queue,
                TURN.as_millis() as c_int,
                batch.as_mut_ptr(),
                batch.len(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        let mut result = Ok(());
        for &message in &batch[..count] {
            if result.is_ok() {
                // SAFETY: librdkafka handed us the message; it is alive until destroyed below.
                result = self.take(unsafe { &*message });
            }
            // SAFETY: every message of the batch is destroyed once, and nothing points into it any more.
            unsafe { rd::rd_kafka_message_destroy(message) };
        }
        result?;
        for (code, text) in self.client.spoken() {
            self.hear(code, text)?;
        }
        if count < batch.len() || self.chunk.len() + batch.len() > self.chunk_messages {
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
                    self.sources[i] = Source { expected: offset.0, reading: true };
                    again.push((tp, offset.0));
                }
                None => {
                    partitions.push(tp.clone());
                    self.sources.push(Source { expected: offset.0, reading: true });
                    fresh.push((tp, offset.0));
                }
            }
        }
        // Chunks refer to the partitions by index: what is in the making was made with the old list.
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
    fn take(&mut self, message: &rd::rd_kafka_message_t) -> Result<(), Gone> {
        if message.err != Native::RD_KAFKA_RESP_ERR_NO_ERROR {
            return self.take_error(message);
        }
        let Some(index) = self.source(message) else { return Ok(()) };
        let source = &mut self.sources[index as usize];
        if message.offset < source.expected || !source.reading {
            return Ok(());
        }
        source.expected = message.offset + 1;
        // SAFETY: payload and key are null or as long as the message says, and are copied before it is destroyed.
        let (key, value, headers, timestamp, kind) = unsafe {
            let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let timestamp = rd::rd_kafka_message_timestamp(message, &mut kind);
            (
                bytes(message.key, message.key_len),
                bytes(message.payload, message.len),
                headers(message),
                timestamp,
                kind,
            )
        };
        let kind = match kind {
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
            _ => TimestampType::NotAvailable,
        };
        if self.chunk.is_empty() {
            self.chunk.partitions = self.partitions.clone();
        }
        self.chunk.push(index, message.offset, timestamp, kind, key, value, headers);
        if self.chunk.len() >= self.chunk_messages || self.chunk.bytes() >= self.chunk_bytes {
            self.hand_on()?;
        }
        Ok(())
    }

    /// End of partition, offsets out of range, and everything that went wrong.
    #[cold]
    fn take_error(&mut self, message: &rd::rd_kafka_message_t) -> Result<(), Gone> {
        let code: Code = message.err.into();
        // SAFETY: an error entry's payload is its text.
        let text = unsafe { bytes(message.payload, message.len) };
        let text = text.map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_else(|| code_text(message.err));
        // SAFETY: as in `spoken`: freed only when the client is dropped.
        let text = tidy(&unsafe { &*self.client.spoken }.secrets.scrub(&text));
        let Some(index) = self.source(message) else {
            // Without a partition it concerns the group (which is never joined) or a broker.
            return match kind_of(code) {
                Kind::Auth => self.send(Err(failed(&format!("Reading from {}", self.address), code, &text))),
                _ => self.warn(text),
            };
        };
        let partition = self.partitions[index as usize].clone();
        let source = &mut self.sources[index as usize];
        match code {
            Code::PartitionEOF => {
                source.expected = source.expected.max(message.offset);
                let next = Offset(source.expected);
                self.hand_on()?;
                self.send(Ok(Event::EndOfPartition { partition, next }))
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                if !std::mem::replace(&mut source.reading, false) {
                    return Ok(());
                }
                let wanted = Offset(source.expected);
                self.hand_on()?;
                self.send(Ok(Event::OutOfRange { partition, wanted }))
            }
            Code::BadMessage
            | Code::BadCompression
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::Underflow => {
                let offset = if message.offset >= 0 { message.offset } else { source.expected };
                self.hand_on()?;
                self.send(Err(Error::data_loss(format!(
                    "{partition} offset {offset} cannot be read: {text}. The broker's copy is damaged; start behind it, or read with \
                     fail_on_data_loss=False."
                ))))
            }
            code if matches!(kind_of(code), Kind::Topic | Kind::Acl | Kind::Auth) || code == Code::Fatal => {
                self.hand_on()?;
                self.send(Err(failed(&format!("Reading {partition} from {}", self.address), code, &text)))
            }
            _ => self.warn(format!("{partition}: {text}")),
        }
    }

    fn hear(&mut self, code: Code, text: String) -> Result<(), Gone> {
        match code {
            Code::Authentication | Code::Fatal => {
                self.hand_on()?;
                self.send(Err(failed(&format!("Reading from {}", self.address), code, &text)))
            }
            Code::AllBrokersDown => self.warn(format!("no broker of {} answers; waiting for one", self.address)),
            _ => self.warn(text),
        }
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

    /// The index of the message's partition, by librdkafka's topic pointer, so that no name is compared per message.
    #[inline]
    fn source(&mut self, message: &rd::rd_kafka_message_t) -> Option<u32> {
        let (topic, partition, index) = self.last_topic;
        if message.rkt == topic && message.partition == partition && !topic.is_null() {
            return Some(index);
        }
        self.find_source(message.rkt, message.partition)
    }

    fn find_source(&mut self, topic: *mut rd::rd_kafka_topic_t, partition: i32) -> Option<u32> {
        if topic.is_null() {
            return None;
        }
        let index = match self.by_topic.get(&(topic, partition)) {
            Some(index) => *index,
            None => {
                // SAFETY: the message that carries the topic is alive, and so is its name.
                let name = unsafe { text_of(rd::rd_kafka_topic_name(topic)) };
                let wanted = TopicPartition::new(name, partition);
                let index = self.partitions.iter().position(|tp| *tp == wanted)? as u32;
                self.by_topic.insert((topic, partition), index);
                index
            }
        };
        self.last_topic = (topic, partition, index);
        Some(index)
    }

    fn hand_on(&mut self) -> Result<(), Gone> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        // The next chunk will be about as large: growing its arena step by step would copy it several times over.
        let mut next = Messages::new(self.partitions.clone());
        next.arena.reserve(self.chunk.arena.len());
        next.offsets.reserve(self.chunk.len());
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.send(Ok(Event::Messages(chunk)))
    }

    /// Waits while the queue is full; ends when the reader is gone.
    fn send(&self, event: Result<Event>) -> Result<(), Gone> {
        self.events.send(event).map_err(|_| Gone)
    }
}

/// # Safety
/// `start` is null or points to `len` bytes that live as long as the caller uses them.
#[inline]
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

/// # Safety
/// `message` came from librdkafka and is alive.
#[inline]
unsafe fn headers(message: &rd::rd_kafka_message_t) -> Headers {
    let mut native = std::ptr::null_mut();
    // SAFETY: by this function's contract; names and values are copied.
    unsafe {
        if rd::rd_kafka_message_headers(message, &mut native) != Native::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Headers::new();
        }
        let mut headers = Headers::new();
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        while rd::rd_kafka_header_get_all(native, headers.len(), &mut name, &mut value, &mut size)
            == Native::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            headers.push((text_of(name), bytes(value, size).map(<[u8]>::to_vec)));
        }
        headers
    }
}
