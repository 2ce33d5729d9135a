//! Consumer groups: list, describe, read and set committed offsets.

use super::{Failure, PartitionList, Request, c_string, code_text, error_of, items, text_of};
use crate::kafka::context::Watch;
use crate::position::TopicPartition;
use rdkafka::{bindings as rd, client::Client, types::RDKafkaErrorCode as Code};
use std::time::Duration;

/// A group in the list of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) struct Listing {
    pub group: String,
    pub state: String,
    /// "Classic", or "Consumer" for the protocol of KIP-848.
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub member_id: String,
    pub client_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    pub host: String,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    pub state: String,
    pub assignor: String,
    /// The broker that coordinates the group.
    pub coordinator: Option<i32>,
    pub members: Vec<Member>,
}

/// A committed offset, None for a partition without one, or the reason why it is not known.
type Committed = (TopicPartition, Result<Option<i64>, Failure>);

pub(in crate::kafka) fn list(client: &Client<Watch>, timeout: Duration) -> Result<Vec<Listing>, Failure> {
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, timeout);
    // SAFETY: the options and the queue live as long as the request.
    unsafe { rd::rd_kafka_ListConsumerGroups(client.native_ptr(), request.options, request.queue) };
    // SAFETY: the event is a ListConsumerGroups result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_ListConsumerGroups_result(event);
        let listed: Vec<Listing> = items(|n| rd::rd_kafka_ListConsumerGroups_result_valid(result, n))
            .map(|g| Listing {
                group: text_of(rd::rd_kafka_ConsumerGroupListing_group_id(g)),
                state: text_of(rd::rd_kafka_consumer_group_state_name(rd::rd_kafka_ConsumerGroupListing_state(g))),
                kind: text_of(rd::rd_kafka_consumer_group_type_name(rd::rd_kafka_ConsumerGroupListing_type(g))),
            })
            .collect();
        // The groups of a broker that does not answer would be missing silently.
        let mut count = 0;
        let errors = rd::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
        match (0..count).find_map(|i| error_of(*errors.add(i))) {
            Some(failure) => Err(failure),
            None => Ok(listed),
        }
    })?
}

/// # Safety
/// `list` is null, or a list that lives as long as the elements are used.
unsafe fn elements<'a>(list: *const rd::rd_kafka_topic_partition_list_t) -> &'a [rd::rd_kafka_topic_partition_t] {
    // SAFETY: not null. An empty list has no elements at all; any other list has `cnt` elements.
    unsafe {
        match list.is_null() || (*list).cnt <= 0 || (*list).elems.is_null() {
            true => &[],
            false => std::slice::from_raw_parts((*list).elems, (*list).cnt as usize),
        }
    }
}

/// # Safety
/// `partition` belongs to a list that lives during the call.
unsafe fn partition_of(partition: &rd::rd_kafka_topic_partition_t) -> TopicPartition {
    // SAFETY: the name lives as long as the list.
    TopicPartition::new(unsafe { text_of(partition.topic) }, partition.partition)
}

pub(in crate::kafka) fn describe(
    client: &Client<Watch>,
    groups: &[&str],
    timeout: Duration,
) -> Result<Vec<Result<GroupDescription, Failure>>, Failure> {
    let names = groups.iter().map(|g| c_string(g)).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<_> = names.iter().map(|n| n.as_ptr()).collect();
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout);
    // SAFETY: the names are copied before the call returns.
    unsafe {
        rd::rd_kafka_DescribeConsumerGroups(
            client.native_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            request.options,
            request.queue,
        );
    }
    // SAFETY: the event is a DescribeConsumerGroups result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
        items(|n| rd::rd_kafka_DescribeConsumerGroups_result_groups(result, n))
            .map(|g| match error_of(rd::rd_kafka_ConsumerGroupDescription_error(g)) {
                Some(failure) => Err(failure),
                None => Ok(description(g)),
            })
            .collect()
    })
}

/// # Safety
/// `group` lives during the call.
unsafe fn description(group: *const rd::rd_kafka_ConsumerGroupDescription_t) -> GroupDescription {
    // SAFETY: all pointers belong to the description.
    unsafe {
        let coordinator = rd::rd_kafka_ConsumerGroupDescription_coordinator(group);
        let members = (0..rd::rd_kafka_ConsumerGroupDescription_member_count(group)).map(|i| {
            let member = rd::rd_kafka_ConsumerGroupDescription_member(group, i);
            let instance = rd::rd_kafka_MemberDescription_group_instance_id(member);
            let assigned = rd::rd_kafka_MemberDescription_assignment(member);
            Member {
                member_id: text_of(rd::rd_kafka_MemberDescription_consumer_id(member)),
                client_id: text_of(rd::rd_kafka_MemberDescription_client_id(member)),
                instance_id: (!instance.is_null()).then(|| text_of(instance)),
                host: text_of(rd::rd_kafka_MemberDescription_host(member)).trim_start_matches('/').to_string(),
                partitions: if assigned.is_null() {
                    vec![]
                } else {
                    let list = rd::rd_kafka_MemberAssignment_partitions(assigned);
                    elements(list).iter().map(|p| partition_of(p)).collect()
                },
            }
        });
        GroupDescription {
            group: text_of(rd::rd_kafka_ConsumerGroupDescription_group_id(group)),
            state: text_of(rd::rd_kafka_consumer_group_state_name(rd::rd_kafka_ConsumerGroupDescription_state(group))),
            assignor: text_of(rd::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            coordinator: (!coordinator.is_null()).then(|| rd::rd_kafka_Node_id(coordinator)),
            members: members.collect(),
        }
    }
}

/// The offsets that an answer has for a group.
///
/// # Safety
/// `group` lives during the call.
unsafe fn committed(group: *const rd::rd_kafka_group_result_t) -> Result<Vec<Committed>, Failure> {
    // SAFETY: all pointers belong to the result.
    unsafe {
        if let Some(failure) = error_of(rd::rd_kafka_group_result_error(group)) {
            return Err(failure);
        }
        Ok(elements(rd::rd_kafka_group_result_partitions(group))
            .iter()
            .map(|p| {
                let offset = match p.err {
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((p.offset >= 0).then_some(p.offset)),
                    code => Err(Failure::new(code, code_text(code))),
                };
                (partition_of(p), offset)
            })
            .collect())
    }
}

fn nothing() -> Failure {
    Failure { code: Code::Fail, text: "the broker's answer does not contain the group".into() }
}

/// All committed offsets of a group.
pub(in crate::kafka) fn offsets(
    client: &Client<Watch>,
    group: &str,
    timeout: Duration,
) -> Result<Vec<Committed>, Failure> {
    let name = c_string(group)?;
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout);
    // SAFETY: the question is copied before the call returns. Without a list, all partitions are meant.
    unsafe {
        let asked = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), std::ptr::null());
        let mut list = [asked];
        rd::rd_kafka_ListConsumerGroupOffsets(
            client.native_ptr(),
            list.as_mut_ptr(),
            1,
            request.options,
            request.queue,
        );
        rd::rd_kafka_ListConsumerGroupOffsets_destroy(asked);
    }
    // SAFETY: the event is a ListConsumerGroupOffsets result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        let mut groups = items(|n| rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, n));
        groups.next().map_or_else(|| Err(nothing()), |g| committed(g))
    })?
}

/// Commits offsets for a group that has no members.
pub(in crate::kafka) fn set_offsets(
    client: &Client<Watch>,
    group: &str,
    offsets: &[(TopicPartition, i64)],
    timeout: Duration,
) -> Result<Vec<Committed>, Failure> {
    let name = c_string(group)?;
    let list = PartitionList::new(offsets)?;
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout);
    // SAFETY: the list and the question are copied before the call returns.
    unsafe {
        let asked = rd::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.0);
        let mut list = [asked];
        rd::rd_kafka_AlterConsumerGroupOffsets(
            client.native_ptr(),
            list.as_mut_ptr(),
            1,
            request.options,
            request.queue,
        );
        rd::rd_kafka_AlterConsumerGroupOffsets_destroy(asked);
    }
    // SAFETY: the event is an AlterConsumerGroupOffsets result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(event);
        let mut groups = items(|n| rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, n));
        groups.next().map_or_else(|| Err(nothing()), |g| committed(g))
    })?
}

pub(in crate::kafka) fn delete(client: &Client<Watch>, group: &str, timeout: Duration) -> Result<(), Failure> {
    let name = c_string(group)?;
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEGROUPS, timeout);
    // SAFETY: the name is copied before the call returns.
    unsafe {
        let asked = rd::rd_kafka_DeleteGroup_new(name.as_ptr());
        let mut list = [asked];
        rd::rd_kafka_DeleteGroups(client.native_ptr(), list.as_mut_ptr(), 1, request.options, request.queue);
        rd::rd_kafka_DeleteGroup_destroy(asked);
    }
    // SAFETY: the event is a DeleteGroups result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_DeleteGroups_result(event);
        let mut groups = items(|n| rd::rd_kafka_DeleteGroups_result_groups(result, n));
        let group = groups.next().ok_or_else(nothing)?;
        error_of(rd::rd_kafka_group_result_error(group)).map_or(Ok(()), Err)
    })?
}
