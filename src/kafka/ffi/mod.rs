//! Calls into librdkafka that rust-rdkafka does not wrap. Besides this folder, only `consume/native` has `unsafe`.

#![allow(unsafe_code)]

pub(super) mod acls;
pub(super) mod cluster;
pub(super) mod groups;
mod mock;

use super::context::Watch;
use crate::position::TopicPartition;
pub(super) use mock::{MOCK_BATCHES, MOCK_BYTES, Mock};
use rdkafka::{
    bindings as rd,
    client::{Client, OAuthToken},
    types::RDKafkaErrorCode as Code,
};
use std::{
    ffi::{CStr, CString, c_char, c_int},
    time::Duration,
};

/// librdkafka's code and text.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub code: Code,
    pub text: String,
}

impl Failure {
    fn new(code: rd::rd_kafka_resp_err_t, text: String) -> Self {
        Self { code: code.into(), text }
    }
}

/// Copies text that librdkafka owns.
///
/// # Safety
/// `text` is null, or a C string that lives during the call.
pub(super) unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and alive by the contract of this function.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

pub(super) fn code_text(code: rd::rd_kafka_resp_err_t) -> String {
    // SAFETY: returns a static string for every code.
    unsafe { text_of(rd::rd_kafka_err2str(code)) }
}

/// The error that an answer carries about one thing, if any.
///
/// # Safety
/// `error` is null, or an error that lives during the call.
unsafe fn error_of(error: *const rd::rd_kafka_error_t) -> Option<Failure> {
    if error.is_null() {
        return None;
    }
    // SAFETY: not null, and alive by the contract of this function.
    unsafe {
        let code = rd::rd_kafka_error_code(error);
        let text = text_of(rd::rd_kafka_error_string(error));
        (code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| Failure::new(code, text))
    }
}

/// The items of an array that librdkafka returns with its length.
///
/// # Safety
/// `get` fills the length of the array that it returns. The array lives while the items are used.
unsafe fn items<T>(get: impl FnOnce(*mut usize) -> *mut *const T) -> impl Iterator<Item = *const T> {
    let mut count = 0;
    let array = get(&mut count);
    // SAFETY: the array has `count` items by the contract of this function.
    (0..count).map(move |i| unsafe { *array.add(i) })
}

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure { code: Code::InvalidArgument, text: "a name contains a NUL byte".into() })
}

/// Partitions with offsets, as a question takes them.
struct PartitionList(*mut rd::rd_kafka_topic_partition_list_t);

impl PartitionList {
    fn new(offsets: &[(TopicPartition, i64)]) -> Result<Self, Failure> {
        let count = c_int::try_from(offsets.len()).unwrap_or(c_int::MAX);
        let names = offsets.iter().map(|(tp, _)| c_string(tp.topic.as_str())).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: the list is ours, and copies the names. It returns the element that it has added.
        unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(count);
            for ((tp, offset), name) in offsets.iter().zip(&names) {
                (*rd::rd_kafka_topic_partition_list_add(list, name.as_ptr(), tp.partition.0)).offset = *offset;
            }
            Ok(Self(list))
        }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: it was made in `new` and is freed once.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// One admin request: its options and the queue for its answer. Both are freed together.
struct Request {
    options: *mut rd::rd_kafka_AdminOptions_t,
    queue: *mut rd::rd_kafka_queue_t,
    timeout: c_int,
}

impl Request {
    fn new(client: &Client<Watch>, op: rd::rd_kafka_admin_op_t, timeout: Duration) -> Self {
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        let rk = client.native_ptr();
        // SAFETY: the client is alive. A refused timeout keeps the default, so its text does not matter.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(rk, op);
            rd::rd_kafka_AdminOptions_set_request_timeout(options, timeout, std::ptr::null_mut(), 0);
            Self { options, queue: rd::rd_kafka_queue_new(rk), timeout }
        }
    }

    /// Waits for the answer and gives it to `read`.
    fn answer<T>(&self, read: impl FnOnce(*mut rd::rd_kafka_event_t) -> T) -> Result<T, Failure> {
        // SAFETY: the queue is ours. The event is destroyed after `read` has copied what it needs.
        unsafe {
            let event = rd::rd_kafka_queue_poll(self.queue, self.timeout.saturating_add(500));
            if event.is_null() {
                let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT;
                return Err(Failure::new(code, code_text(code)));
            }
            let code = rd::rd_kafka_event_error(event);
            let result = if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                Ok(read(event))
            } else {
                Err(Failure::new(code, text_of(rd::rd_kafka_event_error_string(event))))
            };
            rd::rd_kafka_event_destroy(event);
            result
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are freed once.
        unsafe {
            rd::rd_kafka_AdminOptions_destroy(self.options);
            rd::rd_kafka_queue_destroy(self.queue);
        }
    }
}

pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;

/// The offset of a partition and the leader epoch there (below 0: not known), or the reason why there is none.
pub(super) type OffsetAnswer = (TopicPartition, Result<(i64, i32), Failure>);

/// ListOffsets with read_committed. `spec` is EARLIEST, LATEST (the last stable offset) or milliseconds since the
/// epoch. For a time, the answer -1 means that no message is at or after it.
pub(super) fn list_offsets(
    client: &Client<Watch>,
    wanted: &[(TopicPartition, i64)],
    timeout: Duration,
) -> Result<Vec<OffsetAnswer>, Failure> {
    let list = PartitionList::new(wanted)?;
    // SAFETY: librdkafka copies the list before ListOffsets returns.
    let request = unsafe {
        let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
        let refused = rd::rd_kafka_AdminOptions_set_isolation_level(
            request.options,
            rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        );
        debug_assert!(refused.is_null());
        rd::rd_kafka_ListOffsets(client.native_ptr(), list.0, request.options, request.queue);
        request
    };
    // SAFETY: the event is a ListOffsets result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let mut count = 0;
        let infos = rd::rd_kafka_ListOffsets_result_infos(rd::rd_kafka_event_ListOffsets_result(event), &mut count);
        (0..count)
            .map(|i| {
                let found = &*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i));
                let tp = TopicPartition::new(text_of(found.topic), found.partition);
                // For librdkafka 2.12, a broken connection to a leader is not an error. The partitions of that leader
                // come back as they were filled in before the request was sent. If that were taken for an answer,
                // everything up to the end would be skipped. Only a question for a time may have the answer -1.
                let by_time = wanted.iter().any(|(asked, spec)| *asked == tp && *spec >= 0);
                let none = found.offset < if by_time { -1 } else { 0 };
                let offset = match found.err {
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR if none => {
                        let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TRANSPORT;
                        Err(Failure::new(code, "its leader did not answer".into()))
                    }
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                        Ok((found.offset, rd::rd_kafka_topic_partition_get_leader_epoch(found)))
                    }
                    code => Err(Failure::new(code, code_text(code))),
                };
                (tp, offset)
            })
            .collect()
    })
}

/// The id of a topic by DescribeTopics. None if the broker is too old to have ids.
pub(super) fn topic_id(client: &Client<Watch>, topic: &str, timeout: Duration) -> Result<Option<String>, Failure> {
    let name = c_string(topic)?;
    // SAFETY: the collection copies the names, the request copies the collection.
    let request = unsafe {
        let mut names = [name.as_ptr()];
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
        rd::rd_kafka_DescribeTopics(client.native_ptr(), topics, request.options, request.queue);
        rd::rd_kafka_TopicCollection_destroy(topics);
        request
    };
    // SAFETY: the event is a DescribeTopics result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let mut count = 0;
        let topics =
            rd::rd_kafka_DescribeTopics_result_topics(rd::rd_kafka_event_DescribeTopics_result(event), &mut count);
        if count == 0 {
            return Ok(None);
        }
        if let Some(failure) = error_of(rd::rd_kafka_TopicDescription_error(*topics)) {
            return Err(failure);
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(*topics);
        let id = if id.is_null() { String::new() } else { text_of(rd::rd_kafka_Uuid_base64str(id)) };
        // All zeros (all A in base64) means "no id".
        Ok((!id.trim_matches('A').is_empty()).then_some(id))
    })?
}

/// Gives a client a token for SASL OAUTHBEARER.
pub(super) fn set_token(rk: *mut rd::rd_kafka_t, token: &OAuthToken) -> Result<(), String> {
    let text = |t: &str| c_string(t).map_err(|f| f.text);
    let (value, principal) = (text(&token.token)?, text(&token.principal_name)?);
    let mut why = [0 as c_char; 256];
    // SAFETY: the client is alive. The texts are copied, and at most `why.len()` bytes are written.
    unsafe {
        let code = rd::rd_kafka_oauthbearer_set_token(
            rk,
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        );
        match code {
            rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            _ => Err(text_of(why.as_ptr())),
        }
    }
}

/// The user of this process, as the operating system counts it.
pub(super) fn user_id() -> u32 {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Leaves the session of the terminal. Its signals (Ctrl-C, hang-up) then do not reach this process.
pub(super) fn leave_session() {
    // SAFETY: touches no memory. It fails only for a process that already leads a group, which has the same effect.
    unsafe { libc::setsid() };
}
