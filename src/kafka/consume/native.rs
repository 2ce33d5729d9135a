//! librdkafka's consumer with a safe interface. No memory of librdkafka is visible outside a call.

#![allow(unsafe_code)]

use super::ReaderOptions;
use crate::{
    batch::{Headers, TimestampType},
    error::{Error, Result},
    kafka::{
        Connection,
        context::{failed, tidy},
        ffi::{code_text, set_token, text_of},
        properties::Secrets,
        token::Tokens,
    },
    position::TopicPartition,
};
use parking_lot::Mutex;
use rdkafka::{
    bindings::{self as rd, rd_kafka_resp_err_t as Native},
    types::RDKafkaErrorCode as Code,
};
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    sync::Arc,
    time::Duration,
};

/// The error callback collects its texts here. The client's opaque pointer points to it.
struct Spoken {
    said: Mutex<Vec<(Code, String)>>,
    secrets: Secrets,
    tokens: Option<Arc<Tokens>>,
}

/// librdkafka's client and its queue of messages.
pub(super) struct NativeClient {
    rk: *mut rd::rd_kafka_t,
    queue: *mut rd::rd_kafka_queue_t,
    spoken: *const Spoken,
}

// SAFETY: any thread may use librdkafka's client and queues, and `Spoken` is Sync.
unsafe impl Send for NativeClient {}
// SAFETY: as above.
unsafe impl Sync for NativeClient {}

unsafe extern "C" fn on_error(_: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Spoken`, which lives until the client is destroyed. The code comes from librdkafka's own
    // enum.
    let (spoken, reason) = unsafe { (&*opaque.cast::<Spoken>(), text_of(reason)) };
    let code = code_of(code);
    let text = tidy(&spoken.secrets.scrub(&reason));
    let mut said = spoken.said.lock();
    if said.len() < 64 {
        said.push((code, text));
    }
}

/// librdkafka asks for a token when the client is made, and again before the token expires.
unsafe extern "C" fn on_token(rk: *mut rd::rd_kafka_t, _: *const c_char, opaque: *mut c_void) {
    // SAFETY: as in `on_error`.
    let spoken = unsafe { &*opaque.cast::<Spoken>() };
    let asked = spoken.tokens.as_ref().ok_or_else(|| "there is no 'oauth_cb' that returns tokens".to_string());
    let set = asked.and_then(|tokens| tokens.next()).and_then(|token| set_token(rk, &token));
    if let Err(why) = set {
        // SAFETY: the text is copied.
        unsafe { rd::rd_kafka_oauthbearer_set_token_failure(rk, CString::new(why).unwrap_or_default().as_ptr()) };
    }
}

/// The callback gets an `int`. Only the codes that the reader distinguishes are converted back to the enum.
fn code_of(code: c_int) -> Code {
    const TOLD_APART: [Code; 9] = [
        Code::AllBrokersDown,
        Code::Authentication,
        Code::SSL,
        Code::Fatal,
        Code::UnknownTopic,
        Code::UnknownPartition,
        Code::UnknownTopicOrPartition,
        Code::UnknownTopicId,
        Code::TopicAuthorizationFailed,
    ];
    TOLD_APART.into_iter().find(|known| *known as c_int == code).unwrap_or(Code::Unknown)
}

unsafe extern "C" fn on_log(rk: *const rd::rd_kafka_t, level: c_int, fac: *const c_char, text: *const c_char) {
    if !log::log_enabled!(target: "bayou::kafka", log::Level::Debug) {
        return;
    }
    // SAFETY: both are C strings during the call. The opaque pointer is null or the client's `Spoken`.
    let (fac, text) = unsafe {
        let spoken = rd::rd_kafka_opaque(rk).cast::<Spoken>();
        let text = text_of(text);
        (text_of(fac), if spoken.is_null() { text } else { (*spoken).secrets.scrub(&text) })
    };
    log::debug!(target: "bayou::kafka", "librdkafka {level} {fac}: {text}");
}

impl NativeClient {
    pub(super) fn new(connection: &Connection, options: &ReaderOptions) -> Result<Self> {
        let defaults = [
            // A leader that accepts the connection and does not answer is given up after this time, and the new leader
            // is looked up. The default is a minute.
            ("socket.timeout.ms", "10000"),
            // librdkafka requires a group for assignments, but the reader never joins it. If the user gives a name, it
            // is kept, because the ACL may allow only this name.
            ("group.id", "bayou"),
            // The limit of what librdkafka keeps in front of our own queue. A larger value is slower, because waiting
            // messages have left the CPU cache when they are copied. It also needs memory that is not counted here,
            // about 400 bytes for each message: 110 MB in total at 3 M messages/s, compared with 270 MB at 1.7 M with
            // twice the queue and larger fetches.
            ("queued.max.messages.kbytes", "32768"),
            ("queued.min.messages", "100000"),
            ("fetch.message.max.bytes", "1048576"),
            // This is also the limit of the decompressed size of a batch with zstd. The other codecs do not have a
            // limit.
            ("receive.message.max.bytes", "536870912"),
            // The last end-of-partition of a bounded run waits for this time. The default of 500 ms halves the speed on
            // small topics.
            ("fetch.wait.max.ms", "10"),
            ("fetch.error.backoff.ms", "100"),
            ("fetch.queue.backoff.ms", "5"),
            ("reconnect.backoff.max.ms", "1000"),
            ("socket.nagle.disable", "true"),
            // A topic can be missing for this time before it counts as deleted. It existed when the reader started.
            ("topic.metadata.propagation.max.ms", "10000"),
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
        let what = format!("reading from {}", connection.address());
        let config = connection.config_with_defaults(&defaults, &over);
        let config = config.create_native_config().map_err(|e| connection.error(&what, &e))?;
        let spoken = Box::into_raw(Box::new(Spoken {
            said: Mutex::default(),
            secrets: connection.secrets().clone(),
            tokens: connection.tokens(),
        }));
        let mut text = [0 as c_char; 512];
        // SAFETY: the configuration is alive. rd_kafka_new takes ownership if it succeeds, and then the configuration
        // must not be dropped. `spoken` is freed after the client, or here if the client was not created.
        unsafe {
            rd::rd_kafka_conf_set_opaque(config.ptr(), spoken.cast());
            rd::rd_kafka_conf_set_error_cb(config.ptr(), Some(on_error));
            rd::rd_kafka_conf_set_log_cb(config.ptr(), Some(on_log));
            if connection.tokens().is_some() {
                rd::rd_kafka_conf_set_oauthbearer_token_refresh_cb(config.ptr(), Some(on_token));
            }
            let rk =
                rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, config.ptr(), text.as_mut_ptr(), text.len());
            if rk.is_null() {
                drop(Box::from_raw(spoken));
                let text = connection.secrets().scrub(&text_of(text.as_ptr()));
                return Err(Error::config(format!("{what}: librdkafka refuses the properties: {text}")));
            }
            // The client owns the configuration now.
            let _ = std::mem::ManuallyDrop::new(config);
            rd::rd_kafka_poll_set_consumer(rk);
            Ok(Self { rk, queue: rd::rd_kafka_queue_get_consumer(rk), spoken })
        }
    }

    /// Starts to read these partitions, or restarts if `again` is true.
    pub(super) fn assign(&self, positions: &[(TopicPartition, i64)], again: bool) -> Result<()> {
        // SAFETY: the list is ours and librdkafka copies it. Errors are freed after reading.
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
            Err(failed("assigning partitions to the reader", code.into(), &text))
        }
    }

    /// Continues at these offsets after the leaders have confirmed that their logs agree, up to there, with what was
    /// read in these leader epochs. If a log differs, an error entry arrives. Returns false if the partitions are not
    /// being read yet.
    pub(super) fn seek(&self, positions: &[(TopicPartition, i64, i32)], wait: Duration) -> Result<bool> {
        // SAFETY: the list is ours until the call returns. Errors are freed after reading.
        unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(positions.len() as c_int);
            for (tp, offset, epoch) in positions {
                let Ok(topic) = CString::new(tp.topic.as_str()) else { continue };
                let place = rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), tp.partition.0);
                (*place).offset = *offset;
                rd::rd_kafka_topic_partition_set_leader_epoch(place, *epoch);
            }
            let error = rd::rd_kafka_seek_partitions(self.rk, list, wait.as_millis() as c_int);
            let all = (0..(*list).cnt as usize).map(|i| (*(*list).elems.add(i)).err);
            let done = all.into_iter().all(|e| e == Native::RD_KAFKA_RESP_ERR_NO_ERROR);
            rd::rd_kafka_topic_partition_list_destroy(list);
            if error.is_null() {
                return Ok(done);
            }
            let (code, text) = (rd::rd_kafka_error_code(error), text_of(rd::rd_kafka_error_string(error)));
            rd::rd_kafka_error_destroy(error);
            Err(failed("seeking to an offset", code.into(), &text))
        }
    }

    /// Hands out the messages that arrive within `wait`, until `room` is full. Returns how many there were. After an
    /// error from `each`, the rest is discarded.
    pub(super) fn poll<E>(
        &self,
        room: &mut Room,
        wait: Duration,
        mut each: impl FnMut(&Entry<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        // SAFETY: the queue lives as long as the client, and the buffer has room for as many messages as it says.
        let count = unsafe {
            rd::rd_kafka_consume_batch_queue(self.queue, wait.as_millis() as c_int, room.0.as_mut_ptr(), room.0.len())
        };
        let count = usize::try_from(count).unwrap_or(0);
        let mut result = Ok(());
        for &message in &room.0[..count] {
            if result.is_ok() {
                // SAFETY: librdkafka gave us the message. It is alive until it is destroyed below.
                result = each(&Entry { message: unsafe { &*message }, client: self });
            }
            // SAFETY: every message of the batch is destroyed once, and an `Entry` cannot outlive its iteration of the
            // loop.
            unsafe { rd::rd_kafka_message_destroy(message) };
        }
        result.map(|()| count)
    }

    /// The texts of librdkafka about brokers since the last call.
    pub(super) fn spoken(&self) -> Vec<(Code, String)> {
        // SAFETY: freed only in `drop`.
        std::mem::take(&mut *unsafe { &*self.spoken }.said.lock())
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        // SAFETY: made in `new` and destroyed once, and the data of the callbacks is freed after the client. No group
        // was joined, so there is nothing to leave: closing would only wait for the coordinator.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue);
            rd::rd_kafka_destroy_flags(self.rk, rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            drop(Box::from_raw(self.spoken.cast_mut()));
        }
    }
}

/// Room for a batch of messages.
pub(super) struct Room(Vec<*mut rd::rd_kafka_message_t>);

impl Room {
    pub(super) fn of(messages: usize) -> Self {
        Self(vec![std::ptr::null_mut(); messages])
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// librdkafka's handle of a topic. It is the same for all messages of the topic, and cheaper to compare than the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TopicHandle(usize);

impl TopicHandle {
    pub(super) const NONE: TopicHandle = TopicHandle(0);
}

/// A message, or an event of a partition: end or error.
pub(super) struct Entry<'a> {
    message: &'a rd::rd_kafka_message_t,
    client: &'a NativeClient,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(super) fn topic(&self) -> TopicHandle {
        TopicHandle(self.message.rkt as usize)
    }
    pub(super) fn topic_name(&self) -> Option<String> {
        // SAFETY: the message that carries the topic is alive, and so is its name.
        (!self.message.rkt.is_null()).then(|| unsafe { text_of(rd::rd_kafka_topic_name(self.message.rkt)) })
    }
    #[inline]
    pub(super) fn partition(&self) -> i32 {
        self.message.partition
    }
    #[inline]
    pub(super) fn offset(&self) -> i64 {
        self.message.offset
    }
    /// The epoch of the leader that wrote the record. Below 0 if the broker does not say.
    #[inline]
    pub(super) fn leader_epoch(&self) -> i32 {
        // SAFETY: the message is alive.
        unsafe { rd::rd_kafka_message_leader_epoch(self.message) }
    }
    #[inline]
    pub(super) fn error(&self) -> Option<Code> {
        (self.message.err != Native::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.message.err.into())
    }
    /// An error's text, without secrets.
    pub(super) fn error_text(&self) -> String {
        // The payload of an error entry is its text.
        let text = self.value().map(|b| String::from_utf8_lossy(b).into_owned());
        let text = text.unwrap_or_else(|| code_text(self.message.err));
        // SAFETY: freed only when the client is dropped.
        tidy(&unsafe { &*self.client.spoken }.secrets.scrub(&text))
    }
    #[inline]
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: null, or as long as the message says. The entry borrows the message.
        unsafe { bytes(self.message.key, self.message.key_len) }
    }
    #[inline]
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.message.payload, self.message.len) }
    }
    #[inline]
    pub(super) fn timestamp(&self) -> (i64, TimestampType) {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let millis = unsafe { rd::rd_kafka_message_timestamp(self.message, &mut kind) };
        let kind = match kind {
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
            _ => TimestampType::NotAvailable,
        };
        (millis, kind)
    }
    #[inline]
    /// The headers and their size in bytes. Headers above `limit` are not copied.
    pub(super) fn headers(&self, limit: usize) -> (Headers, usize) {
        let (mut headers, mut total) = (Headers::new(), 0);
        let mut native = std::ptr::null_mut();
        // SAFETY: the message is alive. Names and values are copied.
        unsafe {
            if rd::rd_kafka_message_headers(self.message, &mut native) != Native::RD_KAFKA_RESP_ERR_NO_ERROR {
                return (headers, 0);
            }
            let (mut name, mut value, mut size, mut at) = (std::ptr::null(), std::ptr::null(), 0, 0);
            while rd::rd_kafka_header_get_all(native, at, &mut name, &mut value, &mut size)
                == Native::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                at += 1;
                total += CStr::from_ptr(name).to_bytes().len() + if value.is_null() { 0 } else { size };
                if total <= limit {
                    headers.push((text_of(name), bytes(value, size).map(<[u8]>::to_vec)));
                }
            }
        }
        if total > limit {
            headers = Headers::new();
        }
        (headers, total)
    }
}

/// # Safety
/// `start` is null, or points to `len` bytes that live as long as the caller uses them.
#[inline]
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}
