//! The cluster itself, and changes of settings.

use super::{Failure, Request, c_string, error_of, items, text_of};
use crate::kafka::context::Watch;
use rdkafka::{bindings as rd, client::Client};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
    /// Whether requests for the controller go to this broker.
    pub is_controller: bool,
}

pub(in crate::kafka) fn describe(client: &Client<Watch>, timeout: Duration) -> Result<Vec<Broker>, Failure> {
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout);
    // SAFETY: the options and the queue live as long as the request.
    unsafe { rd::rd_kafka_DescribeCluster(client.native_ptr(), request.options, request.queue) };
    // SAFETY: the event is a DescribeCluster result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_DescribeCluster_result(event);
        let controller = rd::rd_kafka_DescribeCluster_result_controller(result);
        let controller = (!controller.is_null()).then(|| rd::rd_kafka_Node_id(controller));
        items(|n| rd::rd_kafka_DescribeCluster_result_nodes(result, n))
            .map(|node| {
                let (id, rack) = (rd::rd_kafka_Node_id(node), rd::rd_kafka_Node_rack(node));
                Broker {
                    id,
                    host: text_of(rd::rd_kafka_Node_host(node)),
                    port: rd::rd_kafka_Node_port(node),
                    rack: (!rack.is_null()).then(|| text_of(rack)).filter(|r| !r.is_empty()),
                    is_controller: controller == Some(id),
                }
            })
            .collect()
    })
}

/// A setting, as librdkafka hands it out.
#[derive(Debug, Clone)]
pub(in crate::kafka) struct Entry {
    pub name: String,
    pub value: Option<String>,
    pub source: rd::rd_kafka_ConfigSource_t,
    pub is_default: bool,
    pub is_sensitive: bool,
    pub is_read_only: bool,
}

/// The settings of a topic, or of a broker by its number.
pub(in crate::kafka) fn settings(
    client: &Client<Watch>,
    of_broker: bool,
    name: &str,
    timeout: Duration,
) -> Result<Vec<Entry>, Failure> {
    use rd::rd_kafka_ResourceType_t::{RD_KAFKA_RESOURCE_BROKER as BROKER, RD_KAFKA_RESOURCE_TOPIC as TOPIC};
    let name = c_string(name)?;
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
    // SAFETY: the resource is copied before the call returns.
    unsafe {
        let resource = rd::rd_kafka_ConfigResource_new(if of_broker { BROKER } else { TOPIC }, name.as_ptr());
        let mut list = [resource];
        rd::rd_kafka_DescribeConfigs(client.native_ptr(), list.as_mut_ptr(), 1, request.options, request.queue);
        rd::rd_kafka_ConfigResource_destroy(resource);
    }
    // SAFETY: the event is a DescribeConfigs result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_DescribeConfigs_result(event);
        let mut out = vec![];
        for resource in items(|n| rd::rd_kafka_DescribeConfigs_result_resources(result, n)) {
            let code = rd::rd_kafka_ConfigResource_error(resource);
            if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Failure::new(code, text_of(rd::rd_kafka_ConfigResource_error_string(resource))));
            }
            out.extend(items(|n| rd::rd_kafka_ConfigResource_configs(resource, n)).map(|e| {
                let value = rd::rd_kafka_ConfigEntry_value(e);
                Entry {
                    name: text_of(rd::rd_kafka_ConfigEntry_name(e)),
                    value: (!value.is_null()).then(|| text_of(value)),
                    source: rd::rd_kafka_ConfigEntry_source(e),
                    is_default: rd::rd_kafka_ConfigEntry_is_default(e) == 1,
                    is_sensitive: rd::rd_kafka_ConfigEntry_is_sensitive(e) == 1,
                    is_read_only: rd::rd_kafka_ConfigEntry_is_read_only(e) == 1,
                }
            }));
        }
        Ok(out)
    })?
}

/// Whether these credentials may describe the cluster itself. None: the broker does not say.
pub(in crate::kafka) fn may_describe(client: &Client<Watch>, timeout: Duration) -> Result<Option<bool>, Failure> {
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout);
    // SAFETY: the options and the queue live as long as the request. Only old brokers refuse the option.
    unsafe {
        let refused = rd::rd_kafka_AdminOptions_set_include_authorized_operations(request.options, 1);
        if !refused.is_null() {
            rd::rd_kafka_error_destroy(refused);
        }
        rd::rd_kafka_DescribeCluster(client.native_ptr(), request.options, request.queue);
    }
    // SAFETY: the event is a DescribeCluster result, and everything is copied out of it.
    request.answer(|event| unsafe {
        use rd::rd_kafka_AclOperation_t::{
            RD_KAFKA_ACL_OPERATION_ALL as ALL, RD_KAFKA_ACL_OPERATION_DESCRIBE as DESCRIBE,
        };
        let result = rd::rd_kafka_event_DescribeCluster_result(event);
        let mut count = 0;
        let operations = rd::rd_kafka_DescribeCluster_result_authorized_operations(result, &mut count);
        (!operations.is_null()).then(|| (0..count).any(|i| matches!(*operations.add(i), ALL | DESCRIBE)))
    })
}

/// Sets settings of a topic. None: back to the default. Others stay as they are (KIP-339).
pub(in crate::kafka) fn alter_config(
    client: &Client<Watch>,
    topic: &str,
    settings: &[(&str, Option<&str>)],
    timeout: Duration,
) -> Result<(), Failure> {
    let name = c_string(topic)?;
    let texts = settings
        .iter()
        .map(|(n, v)| Ok((c_string(n)?, v.map(c_string).transpose()?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let request = Request::new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout);
    // SAFETY: the texts are copied, and the resource is copied before the call returns.
    unsafe {
        use rd::rd_kafka_AlterConfigOpType_t::{
            RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE as DELETE, RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET as SET,
        };
        let topic = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let resource = rd::rd_kafka_ConfigResource_new(topic, name.as_ptr());
        for (setting, value) in &texts {
            let (op, value) = value.as_ref().map_or((DELETE, std::ptr::null()), |v| (SET, v.as_ptr()));
            let refused = rd::rd_kafka_ConfigResource_add_incremental_config(resource, setting.as_ptr(), op, value);
            if let Some(failure) = error_of(refused) {
                rd::rd_kafka_error_destroy(refused);
                rd::rd_kafka_ConfigResource_destroy(resource);
                return Err(failure);
            }
        }
        let mut list = [resource];
        rd::rd_kafka_IncrementalAlterConfigs(client.native_ptr(), list.as_mut_ptr(), 1, request.options, request.queue);
        rd::rd_kafka_ConfigResource_destroy(resource);
    }
    // SAFETY: the event is an IncrementalAlterConfigs result, and everything is copied out of it.
    request.answer(|event| unsafe {
        let result = rd::rd_kafka_event_IncrementalAlterConfigs_result(event);
        for resource in items(|n| rd::rd_kafka_IncrementalAlterConfigs_result_resources(result, n)) {
            let code = rd::rd_kafka_ConfigResource_error(resource);
            if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Failure::new(code, text_of(rd::rd_kafka_ConfigResource_error_string(resource))));
            }
        }
        Ok(())
    })?
}
