//! Access control lists.

use super::{Failure, Request, c_string, error_of, items, text_of};
use crate::kafka::context::Watch;
use rd::{
    rd_kafka_AclOperation_t as Operation, rd_kafka_AclPermissionType_t as Permission,
    rd_kafka_ResourcePatternType_t as Pattern, rd_kafka_ResourceType_t as Resource,
};
use rdkafka::{bindings as rd, client::Client, types::RDKafkaErrorCode as Code};
use std::{
    ffi::{CString, c_char},
    time::Duration,
};

/// What an ACL is about, in Kafka's words. In a filter, None means anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// "User:alice".
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<String>,
    /// "ALLOW" or "DENY".
    pub permission: Option<String>,
    /// "TOPIC", "GROUP", "CLUSTER" or "TRANSACTIONAL_ID".
    pub resource_type: Option<String>,
    pub resource: Option<String>,
    /// "LITERAL" or "PREFIXED". A filter may say "MATCH": all ACLs that count for the resource.
    pub pattern: Option<String>,
}

/// librdkafka calls the cluster a broker.
const RESOURCES: [(&str, Resource); 4] = [
    ("TOPIC", Resource::RD_KAFKA_RESOURCE_TOPIC),
    ("GROUP", Resource::RD_KAFKA_RESOURCE_GROUP),
    ("CLUSTER", Resource::RD_KAFKA_RESOURCE_BROKER),
    ("TRANSACTIONAL_ID", Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID),
];
const PATTERNS: [(&str, Pattern); 3] = [
    ("LITERAL", Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL),
    ("PREFIXED", Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED),
    ("MATCH", Pattern::RD_KAFKA_RESOURCE_PATTERN_MATCH),
];
const PERMISSIONS: [(&str, Permission); 2] = [
    ("ALLOW", Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW),
    ("DENY", Permission::RD_KAFKA_ACL_PERMISSION_TYPE_DENY),
];
const OPERATIONS: [(&str, Operation); 11] = [
    ("ALL", Operation::RD_KAFKA_ACL_OPERATION_ALL),
    ("READ", Operation::RD_KAFKA_ACL_OPERATION_READ),
    ("WRITE", Operation::RD_KAFKA_ACL_OPERATION_WRITE),
    ("CREATE", Operation::RD_KAFKA_ACL_OPERATION_CREATE),
    ("DELETE", Operation::RD_KAFKA_ACL_OPERATION_DELETE),
    ("ALTER", Operation::RD_KAFKA_ACL_OPERATION_ALTER),
    ("DESCRIBE", Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE),
    ("CLUSTER_ACTION", Operation::RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION),
    ("DESCRIBE_CONFIGS", Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS),
    ("ALTER_CONFIGS", Operation::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS),
    ("IDEMPOTENT_WRITE", Operation::RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE),
];

/// The words for operations.
pub(in crate::kafka) fn operations() -> impl Iterator<Item = &'static str> {
    OPERATIONS.iter().map(|(word, _)| *word)
}

fn native<T: Copy>(words: &[(&str, T)], word: Option<&String>, any: T) -> Result<T, Failure> {
    let Some(word) = word else { return Ok(any) };
    let found = words.iter().find(|(w, _)| w == word).map(|(_, native)| *native);
    found.ok_or_else(|| Failure { code: Code::InvalidArgument, text: format!("'{word}' is not a word of an ACL") })
}

fn word<T: Copy + PartialEq>(words: &[(&str, T)], native: T) -> Option<String> {
    words.iter().find(|(_, n)| *n == native).map(|(word, _)| word.to_string())
}

impl Acl {
    fn to_native(
        &self,
        make: unsafe extern "C" fn(
            Resource,
            *const c_char,
            Pattern,
            *const c_char,
            *const c_char,
            Operation,
            Permission,
            *mut c_char,
            usize,
        ) -> *mut rd::rd_kafka_AclBinding_t,
    ) -> Result<*mut rd::rd_kafka_AclBinding_t, Failure> {
        let text = |t: &Option<String>| t.as_deref().map(c_string).transpose();
        let (name, principal, host) = (text(&self.resource)?, text(&self.principal)?, text(&self.host)?);
        let pointer = |t: &Option<CString>| t.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
        let mut why = [0 as c_char; 512];
        let resource = native(&RESOURCES, self.resource_type.as_ref(), Resource::RD_KAFKA_RESOURCE_ANY)?;
        let pattern = native(&PATTERNS, self.pattern.as_ref(), Pattern::RD_KAFKA_RESOURCE_PATTERN_ANY)?;
        let operation = native(&OPERATIONS, self.operation.as_ref(), Operation::RD_KAFKA_ACL_OPERATION_ANY)?;
        let any = Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ANY;
        let permission = native(&PERMISSIONS, self.permission.as_ref(), any)?;
        // SAFETY: librdkafka copies the texts, and writes at most `why.len()` bytes.
        unsafe {
            let (name, principal, host) = (pointer(&name), pointer(&principal), pointer(&host));
            let made =
                make(resource, name, pattern, principal, host, operation, permission, why.as_mut_ptr(), why.len());
            if made.is_null() {
                return Err(Failure { code: Code::InvalidArgument, text: text_of(why.as_ptr()) });
            }
            Ok(made)
        }
    }

    /// # Safety
    /// `acl` lives during the call.
    unsafe fn of(acl: *const rd::rd_kafka_AclBinding_t) -> Self {
        // SAFETY: alive by the contract of this function.
        unsafe {
            Self {
                principal: Some(text_of(rd::rd_kafka_AclBinding_principal(acl))),
                host: Some(text_of(rd::rd_kafka_AclBinding_host(acl))),
                operation: word(&OPERATIONS, rd::rd_kafka_AclBinding_operation(acl)),
                permission: word(&PERMISSIONS, rd::rd_kafka_AclBinding_permission_type(acl)),
                resource_type: word(&RESOURCES, rd::rd_kafka_AclBinding_restype(acl)),
                resource: Some(text_of(rd::rd_kafka_AclBinding_name(acl))),
                pattern: word(&PATTERNS, rd::rd_kafka_AclBinding_resource_pattern_type(acl)),
            }
        }
    }
}

/// The ACLs that match.
pub(in crate::kafka) fn describe(client: &Client<Watch>, filter: &Acl, timeout: Duration) -> Result<Vec<Acl>, Failure> {
    let native = filter.to_native(rd::rd_kafka_AclBindingFilter_new)?;
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEACLS, timeout);
    // SAFETY: the filter is copied before the call returns.
    unsafe {
        rd::rd_kafka_DescribeAcls(client.native_ptr(), native, request.options, request.queue);
        rd::rd_kafka_AclBinding_destroy(native);
    }
    // SAFETY: the event is a DescribeAcls result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_DescribeAcls_result(event);
        items(|n| rd::rd_kafka_DescribeAcls_result_acls(result, n)).map(|acl| Acl::of(acl)).collect()
    })
}

pub(in crate::kafka) fn create(client: &Client<Watch>, acl: &Acl, timeout: Duration) -> Result<(), Failure> {
    let mut list = [acl.to_native(rd::rd_kafka_AclBinding_new)?];
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEACLS, timeout);
    // SAFETY: the ACL is copied before the call returns.
    unsafe {
        rd::rd_kafka_CreateAcls(client.native_ptr(), list.as_mut_ptr(), 1, request.options, request.queue);
        rd::rd_kafka_AclBinding_destroy(list[0]);
    }
    // SAFETY: the event is a CreateAcls result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_CreateAcls_result(event);
        let mut answers = items(|n| rd::rd_kafka_CreateAcls_result_acls(result, n));
        answers.find_map(|a| error_of(rd::rd_kafka_acl_result_error(a))).map_or(Ok(()), Err)
    })?
}

/// Removes the ACLs that match, and returns them.
pub(in crate::kafka) fn delete(client: &Client<Watch>, filter: &Acl, timeout: Duration) -> Result<Vec<Acl>, Failure> {
    let mut list = [filter.to_native(rd::rd_kafka_AclBindingFilter_new)?];
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEACLS, timeout);
    // SAFETY: the filter is copied before the call returns.
    unsafe {
        rd::rd_kafka_DeleteAcls(client.native_ptr(), list.as_mut_ptr(), 1, request.options, request.queue);
        rd::rd_kafka_AclBinding_destroy(list[0]);
    }
    // SAFETY: the event is a DeleteAcls result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_DeleteAcls_result(event);
        let mut removed = vec![];
        for response in items(|n| rd::rd_kafka_DeleteAcls_result_responses(result, n)) {
            if let Some(failure) = error_of(rd::rd_kafka_DeleteAcls_result_response_error(response)) {
                return Err(failure);
            }
            for acl in items(|n| rd::rd_kafka_DeleteAcls_result_response_matching_acls(response, n)) {
                if let Some(failure) = error_of(rd::rd_kafka_AclBinding_error(acl)) {
                    return Err(failure);
                }
                removed.push(Acl::of(acl));
            }
        }
        Ok(removed)
    })?
}
