//! Calls into librdkafka that rust-rdkafka does not wrap. Besides this file, only `consume/native` has `unsafe`.

#![allow(unsafe_code)]

use super::context::Watch;
use crate::position::TopicPartition;
use rdkafka::{
    bindings::{self as rd, rd_kafka_resp_err_t as Native},
    client::Client,
    types::RDKafkaErrorCode as Code,
};
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
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

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure { code: Code::InvalidArgument, text: "a name contains a NUL byte".into() })
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
    let count = c_int::try_from(wanted.len()).unwrap_or(c_int::MAX);
    let names = wanted.iter().map(|(tp, _)| c_string(tp.topic.as_str())).collect::<Result<Vec<_>, _>>()?;
    // SAFETY: the list is ours. librdkafka copies it and the names before ListOffsets returns.
    let request = unsafe {
        let list = rd::rd_kafka_topic_partition_list_new(count);
        for ((tp, spec), name) in wanted.iter().zip(&names) {
            (*rd::rd_kafka_topic_partition_list_add(list, name.as_ptr(), tp.partition.0)).offset = *spec;
        }
        let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
        let refused = rd::rd_kafka_AdminOptions_set_isolation_level(
            request.options,
            rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        );
        debug_assert!(refused.is_null());
        rd::rd_kafka_ListOffsets(client.native_ptr(), list, request.options, request.queue);
        rd::rd_kafka_topic_partition_list_destroy(list);
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
        let error = rd::rd_kafka_TopicDescription_error(*topics);
        let code = rd::rd_kafka_error_code(error);
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Failure::new(code, text_of(rd::rd_kafka_error_string(error))));
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(*topics);
        let id = if id.is_null() { String::new() } else { text_of(rd::rd_kafka_Uuid_base64str(id)) };
        // All zeros (all A in base64) means "no id".
        Ok((!id.trim_matches('A').is_empty()).then_some(id))
    })?
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

unsafe extern "C" {
    // librdkafka's own function, which is not in its headers. It finds the limits of the mock's partitions.
    fn rd_kafka_mock_topic_find(cluster: *const rd::rd_kafka_mock_cluster_t, name: *const c_char) -> *mut c_void;
    fn rd_kafka_mock_partition_find(topic: *const c_void, partition: i32) -> *mut usize;
}

/// The limits of the mock for each partition. Beyond them it evicts messages silently.
pub(super) const MOCK_BYTES: usize = 5 * 1024 * 1024;
pub(super) const MOCK_BATCHES: usize = 100_000;

/// librdkafka's mock cluster, with one broker.
pub(super) struct Mock {
    cluster: *mut rd::rd_kafka_mock_cluster_t,
}

// SAFETY: the cluster runs on a thread of its own, and all calls go through its queue.
unsafe impl Send for Mock {}
// SAFETY: as above.
unsafe impl Sync for Mock {}

impl Mock {
    /// Lives until the process ends.
    pub fn new() -> Result<Self, Failure> {
        // SAFETY: rd_kafka_new takes ownership of the configuration. The client is never destroyed, because the cluster
        // needs it.
        unsafe {
            let mut text = [0 as c_char; 512];
            let config = rd::rd_kafka_conf_new();
            // Its clients connect by a Unix socket, which does not have this option. librdkafka would log a complaint.
            let (name, off) = (c"socket.nagle.disable", c"false");
            rd::rd_kafka_conf_set(config, name.as_ptr(), off.as_ptr(), text.as_mut_ptr(), text.len());
            let rk = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, config, text.as_mut_ptr(), text.len());
            let fail = |text: String| Failure { code: Code::Fail, text };
            if rk.is_null() {
                return Err(fail(text_of(text.as_ptr())));
            }
            let cluster = rd::rd_kafka_mock_cluster_new(rk, 1);
            if cluster.is_null() {
                return Err(fail("the mock cluster does not start".into()));
            }
            Ok(Self { cluster })
        }
    }

    /// The address where the cluster listens.
    pub fn address(&self) -> String {
        // SAFETY: the text belongs to the cluster, which is never destroyed.
        unsafe { text_of(rd::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
    }

    /// Replaces the listening port of the mock by this socket, because anybody on the machine could connect to the
    /// port. The mock has no option for this. So its descriptor, which is found by its address, is made a duplicate of
    /// our socket. The thread of the mock still holds the port until it wakes up.
    pub fn listen_at(&self, ours: &std::os::unix::net::UnixListener) -> Result<(), Failure> {
        use std::os::fd::AsRawFd;
        /// This process has just started and has few open files.
        const DESCRIPTORS: c_int = 4096;
        let fail = |text: String| Failure { code: Code::Fail, text };
        let address = self.address();
        let port: u16 = address.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(0);
        let listens_there = |fd: c_int| {
            let mut is_listening: c_int = 0;
            let mut length = size_of::<c_int>() as libc::socklen_t;
            // SAFETY: an address of the requested kind is plain numbers, for which zeros are valid.
            let mut at: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            let mut size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: both calls write at most as many bytes as they are told. An invalid descriptor gives an error.
            let asked = unsafe {
                libc::getsockname(fd, (&raw mut at).cast(), &raw mut size) == 0
                    && libc::getsockopt(
                        fd,
                        libc::SOL_SOCKET,
                        libc::SO_ACCEPTCONN,
                        (&raw mut is_listening).cast(),
                        &raw mut length,
                    ) == 0
            };
            asked
                && is_listening != 0
                && c_int::from(at.sin_family) == libc::AF_INET
                && u16::from_be(at.sin_port) == port
        };
        let theirs = (0..DESCRIPTORS).find(|fd| port != 0 && listens_there(*fd));
        let theirs = theirs.ok_or_else(|| fail(format!("the cluster's port {address} is not found")))?;
        // SAFETY: `theirs` is the listening socket of the mock. Nobody else uses it, and the mock's thread only polls
        // and accepts on the number.
        match unsafe { libc::dup2(ours.as_raw_fd(), theirs) } {
            -1 => Err(fail(std::io::Error::last_os_error().to_string())),
            _ => Ok(()),
        }
    }

    /// Tells clients to connect to this port instead of the mock's own.
    pub fn advertise(&self, port: u16) {
        // SAFETY: the host is copied.
        unsafe { rd::rd_kafka_mock_broker_set_host_port(self.cluster, 1, c"127.0.0.1".as_ptr(), c_int::from(port)) };
    }

    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Failure> {
        let name = c_string(name)?;
        // SAFETY: the name is copied.
        match unsafe { rd::rd_kafka_mock_topic_create(self.cluster, name.as_ptr(), partitions, 1) } {
            Native::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(Failure::new(code, code_text(code))),
        }
    }

    /// Raises the limits of the partitions of a new topic. Then our own limit, which reports an error, is reached
    /// first. librdkafka does not have a call for this. So the two numbers are searched in the structure of the
    /// partition, between two counters that are zero in a new partition. Returns false if they are not found (a
    /// different librdkafka). The limits of the mock then stay.
    pub fn lift_limits(&self, name: &str, partitions: i32) -> bool {
        // The number of words that are certainly inside the structure. It begins with a link (2), two ids (1), four
        // offsets (4), two flags (1) and the head of the list of batches (2). Then come size, count, and their limits
        // (4).
        const WORDS: usize = 14;
        let Ok(name) = c_string(name) else { return false };
        // SAFETY: we have just created the topic, and it is never deleted. Nobody has written to it yet, and the mock's
        // thread reads the limits only after somebody has. Every partition is checked before any is changed.
        unsafe {
            let topic = rd_kafka_mock_topic_find(self.cluster, name.as_ptr());
            if topic.is_null() {
                return false;
            }
            let mut limits = Vec::new();
            for p in 0..partitions {
                let words = rd_kafka_mock_partition_find(topic, p);
                if words.is_null() {
                    return false;
                }
                let found = (2..=WORDS - 2).find(|i| {
                    let word = |k: usize| words.add(k).read();
                    (word(i - 2), word(i - 1), word(*i), word(i + 1)) == (0, 0, MOCK_BYTES, MOCK_BATCHES)
                });
                match found {
                    Some(i) => limits.push(words.add(i)),
                    None => return false,
                }
            }
            for limit in limits {
                limit.write(usize::MAX / 2);
                limit.add(1).write(usize::MAX / 2);
            }
        }
        true
    }
}
