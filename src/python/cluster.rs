//! Looking after a cluster: brokers, settings, offsets, groups, ACLs, as tables.

use super::connection::PyConnection;
use super::convert;
use super::door;
use super::query::PyQuery;
use super::table::PyTable;
use crate::flow::source::Offsets;
use crate::kafka::{Acl, Configured, Connection, OffsetSpec};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::read::Rows;
use crate::{Error, Result};
use arrow::array::*;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The columns of a table that is being built.
#[derive(Default)]
struct Columns(Vec<(&'static str, ArrayRef)>);

impl Columns {
    fn text<T: AsRef<str>>(mut self, name: &'static str, values: impl IntoIterator<Item = Option<T>>) -> Self {
        self.0.push((name, Arc::new(values.into_iter().collect::<StringArray>())));
        self
    }

    fn long(mut self, name: &'static str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.0.push((name, Arc::new(values.into_iter().collect::<Int64Array>())));
        self
    }

    fn int(mut self, name: &'static str, values: impl IntoIterator<Item = Option<i32>>) -> Self {
        self.0.push((name, Arc::new(values.into_iter().collect::<Int32Array>())));
        self
    }

    fn flag(mut self, name: &'static str, values: impl IntoIterator<Item = bool>) -> Self {
        self.0.push((name, Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())));
        self
    }

    /// The columns `topic` and `partition`.
    fn places<'a>(self, places: impl Iterator<Item = &'a TopicPartition> + Clone) -> Self {
        self.text("topic", places.clone().map(|tp| Some(tp.topic.as_str())))
            .int("partition", places.map(|tp| Some(tp.partition.0)))
    }

    fn rows(self) -> Result<Rows> {
        let batch = RecordBatch::try_from_iter_with_nullable(self.0.into_iter().map(|(n, a)| (n, a, true)))?;
        Ok(Rows { schema: batch.schema(), batches: vec![batch] })
    }
}

pub(super) fn table(py: Python<'_>, make: impl FnOnce() -> Result<Rows> + Send + 'static) -> PyResult<PyTable> {
    Ok(PyTable::new(door::run(py, make)?))
}

pub(super) fn topics(c: &Connection, internal: bool) -> Result<Rows> {
    let found = c.topics(internal)?;
    Columns::default()
        .text("topic", found.iter().map(|t| Some(&t.name)))
        .long("partitions", found.iter().map(|t| Some(t.partitions as i64)))
        .rows()
}

pub(super) fn brokers(c: &Connection) -> Result<Rows> {
    let found = c.brokers()?;
    Columns::default()
        .int("broker", found.iter().map(|b| Some(b.id)))
        .text("host", found.iter().map(|b| Some(&b.host)))
        .int("port", found.iter().map(|b| Some(i32::from(b.port))))
        .text("rack", found.iter().map(|b| b.rack.as_ref()))
        .flag("is_controller", found.iter().map(|b| b.is_controller))
        .text("version", found.iter().map(|b| c.broker_version(b)))
        .rows()
}

pub(super) fn settings(c: &Connection, of: &Configured) -> Result<Rows> {
    let found = c.settings(of)?;
    Columns::default()
        .text("name", found.iter().map(|s| Some(&s.name)))
        .text("value", found.iter().map(|s| s.value.as_ref()))
        .text("source", found.iter().map(|s| Some(s.source)))
        .flag("is_default", found.iter().map(|s| s.is_default))
        .flag("is_sensitive", found.iter().map(|s| s.is_sensitive))
        .flag("is_read_only", found.iter().map(|s| s.is_read_only))
        .rows()
}

/// `describe_config`'s arguments.
pub(super) fn configured(topic: Option<String>, broker: Option<i32>) -> Result<Configured> {
    match (topic, broker) {
        (Some(topic), None) => Ok(Configured::Topic(topic)),
        (None, Some(broker)) => Ok(Configured::Broker(broker)),
        _ => Err(Error::config("describe_config takes a topic's name, or broker= with a broker's number")),
    }
}

/// Settings as a dict: None means the default.
pub(super) fn new_settings(config: &Bound<'_, PyAny>) -> PyResult<BTreeMap<String, Option<String>>> {
    let dict = config
        .cast::<PyDict>()
        .map_err(|_| Error::config("alter_config takes a dict: {\"retention.ms\": 86400000}"))?;
    let mut unset = vec![];
    let set = PyDict::new(config.py());
    for (name, value) in dict.iter() {
        match value.is_none() {
            true => unset.push(name.extract::<String>()?),
            false => set.set_item(name, value)?,
        }
    }
    let set = convert::string_map(Some(set.as_any()), "alter_config")?;
    Ok(set.into_iter().map(|(n, v)| (n, Some(v))).chain(unset.into_iter().map(|n| (n, None))).collect())
}

/// The offsets of a position for these partitions. A dict has them for each partition that it names; the other forms hold for all partitions.
fn resolve(c: &Connection, to: &Offsets, all: &BTreeSet<TopicPartition>, what: &str) -> Result<Positions> {
    let (mut out, asked) = to.of(all, what)?;
    // Refuses partitions that do not exist, and offsets that the log has never had.
    let named: Vec<_> = out.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
    for (tp, end) in c.list_offsets(&named)? {
        if out[&tp] > end {
            return Err(Error::config(format!("{what}: {tp} ends at {}, and {} is after the end", end.0, out[&tp].0)));
        }
    }
    out.extend(c.list_offsets(&asked)?);
    Ok(out)
}

fn partitions(c: &Connection, topics: &[String]) -> Result<BTreeSet<TopicPartition>> {
    let mut out = BTreeSet::new();
    for topic in topics.iter().map(Topic::new) {
        out.extend(
            c.partitions(&topic)?.into_iter().map(|partition| TopicPartition { topic: topic.clone(), partition }),
        );
    }
    Ok(out)
}

/// The topics that exist. Groups also keep offsets of topics that are gone.
fn topics_there(c: &Connection) -> Result<BTreeSet<String>> {
    Ok(c.topics(true)?.into_iter().map(|t| t.name).collect())
}

pub(super) fn offsets(c: &Connection, topics: &[String], at: &Offsets) -> Result<Rows> {
    let found = resolve(c, at, &partitions(c, topics)?, "at=")?;
    Columns::default().places(found.keys()).long("offset", found.values().map(|o| Some(o.0))).rows()
}

pub(super) fn groups(c: &Connection) -> Result<Rows> {
    let found = c.groups()?;
    Columns::default()
        .text("group", found.iter().map(|g| Some(&g.group)))
        .text("state", found.iter().map(|g| Some(&g.state)))
        .text("type", found.iter().map(|g| Some(&g.kind)))
        .long("members", found.iter().map(|g| g.members.map(|n| n as i64)))
        .rows()
}

pub(super) fn describe_group(c: &Connection, group: &str) -> Result<Rows> {
    let found = c.describe_group(group)?;
    let members = &found.members;
    let mut partitions = ListBuilder::new(StringBuilder::new());
    for member in members {
        member.partitions.iter().for_each(|tp| partitions.values().append_value(tp.to_string()));
        partitions.append(true);
    }
    let mut columns = Columns::default()
        .text("group", members.iter().map(|_| Some(&found.group)))
        .text("state", members.iter().map(|_| Some(&found.state)))
        .text("assignor", members.iter().map(|_| Some(&found.assignor)))
        .int("coordinator", members.iter().map(|_| found.coordinator))
        .text("member", members.iter().map(|m| Some(&m.member_id)))
        .text("client_id", members.iter().map(|m| Some(&m.client_id)))
        .text("instance_id", members.iter().map(|m| m.instance_id.as_ref()))
        .text("host", members.iter().map(|m| Some(&m.host)));
    columns.0.push(("partitions", Arc::new(partitions.finish())));
    columns.rows()
}

pub(super) fn group_offsets(c: &Connection, group: &str) -> Result<Rows> {
    let found = c.group_offsets(group)?;
    Columns::default().places(found.keys()).long("offset", found.values().map(|o| Some(o.0))).rows()
}

/// Positions, and how many messages are behind each.
fn lag_rows(c: &Connection, at: &BTreeMap<TopicPartition, Option<Offset>>) -> Result<Columns> {
    let asked: Vec<_> = at.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
    let latest = c.list_offsets(&asked)?;
    let end = |tp: &TopicPartition| latest.get(tp).map(|o| o.0);
    let behind = |(tp, at): (&TopicPartition, &Option<Offset>)| Some((end(tp)? - at.as_ref()?.0).max(0));
    Ok(Columns::default()
        .places(at.keys())
        .long("position", at.values().map(|o| o.map(|o| o.0)))
        .long("latest", at.keys().map(end))
        .long("lag", at.iter().map(behind)))
}

pub(super) fn group_lag(c: &Connection, group: &str) -> Result<Rows> {
    let readers = c.readers(group)?;
    let mut at: BTreeMap<_, _> = readers.keys().map(|tp| (tp.clone(), None)).collect();
    at.extend(c.group_offsets(group)?.into_iter().map(|(tp, o)| (tp, Some(o))));
    let there = topics_there(c)?;
    at.retain(|tp, _| there.contains(tp.topic.as_str()));
    lag_rows(c, &at)?
        .text("client_id", at.keys().map(|tp| readers.get(tp).map(|m| &m.client_id)))
        .text("host", at.keys().map(|tp| readers.get(tp).map(|m| &m.host)))
        .rows()
}

/// `lag`'s argument: a group's name, or a query.
pub(super) fn lag(py: Python<'_>, c: Connection, of: &Bound<'_, PyAny>) -> PyResult<PyTable> {
    if let Ok(query) = of.cast::<PyQuery>() {
        let at = query.get().here()?.0.report.lock().positions.clone();
        return table(py, move || lag_rows(&c, &at.into_iter().map(|(tp, o)| (tp, Some(o))).collect())?.rows());
    }
    let group: String = of.extract().map_err(|_| Error::config("lag takes a consumer group's name or a Query"))?;
    table(py, move || group_lag(&c, &group))
}

fn confirmed(confirm: bool, what: &str) -> Result<()> {
    match confirm {
        true => Ok(()),
        false => Err(Error::config(format!("{what} Nothing was changed. To make this change, pass confirm=True."))),
    }
}

pub(super) fn reset_group(
    c: &Connection,
    group: &str,
    topics: Option<&[String]>,
    to: &Offsets,
    confirm: bool,
) -> Result<Rows> {
    // A group that has never committed can be given a position, too.
    let before = match c.group_offsets(group) {
        Err(e) if e.kind == crate::Kind::Config && topics.is_some() => Positions::new(),
        found => found?,
    };
    let mut all = match topics {
        Some(topics) => partitions(c, topics)?,
        None => before.keys().cloned().collect(),
    };
    if let Some(topics) = topics
        && let Some(other) = to.named().iter().find(|tp| !topics.iter().any(|t| t == tp.topic.as_str()))
    {
        return Err(Error::config(format!("reset_group: to= names the topic '{}', and topics= does not", other.topic)));
    }
    if all.is_empty() && to.named().is_empty() {
        return Err(Error::config(format!(
            "reset_group: the group '{group}' has no committed offsets. Name its topics: topics=[\"…\"]."
        )));
    }
    let there = topics_there(c)?;
    all.retain(|tp| there.contains(tp.topic.as_str()));
    let after = resolve(c, to, &all, "to=")?;
    let moved: Vec<String> = after
        .iter()
        .map(|(tp, o)| format!("{tp} from {} to {}", before.get(tp).map_or("nothing".into(), |b| b.0.to_string()), o.0))
        .collect();
    let shown = moved.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if moved.len() > 5 { format!(" and {} more", moved.len() - 5) } else { String::new() };
    confirmed(confirm, &format!("reset_group moves the group '{group}': {shown}{more}."))?;
    c.set_group_offsets(group, &after)?;
    Columns::default()
        .places(after.keys())
        .long("before", after.keys().map(|tp| before.get(tp).map(|o| o.0)))
        .long("after", after.values().map(|o| Some(o.0)))
        .rows()
}

pub(super) fn delete_group(c: &Connection, group: &str, confirm: bool) -> Result<()> {
    if !confirm {
        let at = c.group_offsets(group)?;
        confirmed(
            false,
            &format!("delete_group deletes the group '{group}' with its offsets of {} partitions.", at.len()),
        )?;
    }
    c.delete_group(group)
}

/// `delete_records`' argument `before`: as other offsets, or {0: 42} for the one topic.
pub(super) fn before(value: &Bound<'_, PyAny>, topic: &str) -> PyResult<Offsets> {
    if let Ok(dict) = value.cast::<PyDict>()
        && dict.iter().any(|(k, _)| k.extract::<i32>().is_ok())
    {
        let whole = PyDict::new(value.py());
        whole.set_item(topic, dict)?;
        return convert::offsets(whole.as_any(), "before=");
    }
    convert::offsets(value, "before=")
}

pub(super) fn delete_records(c: &Connection, topic: &str, before: &Offsets, confirm: bool) -> Result<Rows> {
    if let Some(other) = before.named().iter().find(|tp| tp.topic.as_str() != topic) {
        return Err(Error::config(format!("delete_records of '{topic}': before= names the topic '{}'", other.topic)));
    }
    let all = partitions(c, &[topic.to_string()])?;
    let to = resolve(c, before, &all, "before=")?;
    let earliest = resolve(c, &Offsets::Earliest, &to.keys().cloned().collect(), "before=")?;
    let lost: i64 = to.iter().map(|(tp, o)| (o.0 - earliest.get(tp).map_or(0, |e| e.0)).max(0)).sum();
    confirmed(
        confirm,
        &format!("delete_records deletes up to {lost} messages of the topic '{topic}' for all readers, for good."),
    )?;
    let now = c.delete_records(topic, &to)?;
    Columns::default().places(now.keys()).long("earliest", now.values().map(|o| Some(o.0))).rows()
}

/// The arguments of `acls`, `add_acl` and `remove_acl`.
#[derive(Default)]
pub(super) struct AclArguments {
    pub principal: Option<String>,
    pub operations: Vec<String>,
    pub topic: Option<String>,
    pub group: Option<String>,
    pub transactional_id: Option<String>,
    pub cluster: bool,
    pub pattern: Option<String>,
    pub host: Option<String>,
    pub permission: Option<String>,
}

impl AclArguments {
    /// One ACL for each operation.
    fn read(self, call: &str) -> Result<Vec<Acl>> {
        let word = |name: &str, value: Option<String>, words: &[&str]| -> Result<Option<String>> {
            let Some(value) = value else { return Ok(None) };
            let upper = value.to_uppercase();
            match words.contains(&upper.as_str()) {
                true => Ok(Some(upper)),
                false => {
                    Err(Error::config(format!("{call}: {name}='{value}': use {}", words.join(" or ").to_lowercase())))
                }
            }
        };
        let named = [("TOPIC", self.topic), ("GROUP", self.group), ("TRANSACTIONAL_ID", self.transactional_id)];
        let mut named: Vec<_> = named.into_iter().filter_map(|(kind, name)| Some((kind, name?))).collect();
        if self.cluster {
            named.push(("CLUSTER", "kafka-cluster".into()));
        }
        if named.len() > 1 {
            return Err(Error::config(format!(
                "{call}: an ACL is about one of topic=, group=, transactional_id= and cluster=True"
            )));
        }
        let acl = Acl {
            principal: self.principal,
            host: self.host,
            operation: None,
            permission: word("permission", self.permission, &["ALLOW", "DENY"])?,
            pattern: word("pattern", self.pattern, &["LITERAL", "PREFIXED"])?,
            resource_type: named.first().map(|(kind, _)| kind.to_string()),
            resource: named.pop().map(|(_, name)| name),
        };
        let tidy = |o: String| o.trim().to_uppercase().replace([' ', '-'], "_");
        let operations: Vec<Option<String>> = match self.operations.is_empty() {
            true => vec![None],
            false => self.operations.into_iter().map(|o| Some(tidy(o))).collect(),
        };
        let all: Vec<_> = operations.into_iter().map(|operation| Acl { operation, ..acl.clone() }).collect();
        all.iter().try_for_each(Acl::check)?;
        Ok(all)
    }
}

fn acl_rows(found: &[Acl]) -> Result<Rows> {
    Columns::default()
        .text("principal", found.iter().map(|a| a.principal.as_ref()))
        .text("permission", found.iter().map(|a| a.permission.as_ref()))
        .text("operation", found.iter().map(|a| a.operation.as_ref()))
        .text("resource_type", found.iter().map(|a| a.resource_type.as_ref()))
        .text("resource", found.iter().map(|a| a.resource.as_ref()))
        .text("pattern", found.iter().map(|a| a.pattern.as_ref()))
        .text("host", found.iter().map(|a| a.host.as_ref()))
        .rows()
}

pub(super) fn acls(c: &Connection, arguments: AclArguments) -> Result<Rows> {
    let mut found = vec![];
    for mut filter in arguments.read("acls")? {
        // All ACLs that count for the resource, also ACLs for a prefix or for all resources.
        filter.pattern = filter.pattern.or(filter.resource.is_some().then(|| "MATCH".into()));
        found.extend(c.acls(&filter)?);
    }
    acl_rows(&found)
}

pub(super) fn add_acl(c: &Connection, arguments: AclArguments) -> Result<Rows> {
    let all = arguments.read("add_acl")?;
    for acl in &all {
        if acl.resource.is_none() {
            return Err(Error::config(
                "add_acl needs what the ACL is about: topic=, group=, transactional_id= or cluster=True",
            ));
        }
        if acl.pattern.as_deref() == Some("PREFIXED") && acl.resource_type.as_deref() == Some("CLUSTER") {
            return Err(Error::config("add_acl: an ACL of the cluster has no pattern="));
        }
    }
    all.iter().try_for_each(|acl| c.add_acl(acl))?;
    acl_rows(&all)
}

pub(super) fn remove_acl(c: &Connection, arguments: AclArguments, confirm: bool) -> Result<Rows> {
    let filters = arguments.read("remove_acl")?;
    let any = Acl::default();
    if filters.contains(&any) {
        return Err(Error::config(
            "remove_acl without an argument would remove every ACL. Say which: principal=, topic=, …",
        ));
    }
    let mut found = vec![];
    for filter in &filters {
        found.extend(match confirm {
            true => c.remove_acls(filter)?,
            false => c.acls(filter)?,
        });
    }
    if !confirm {
        let shown: Vec<String> = found.iter().take(5).map(describe_acl).collect();
        let more = if found.len() > 5 { " …" } else { "" };
        confirmed(false, &format!("remove_acl removes {} ACLs: {}{more}.", found.len(), shown.join("; ")))?;
    }
    acl_rows(&found)
}

fn describe_acl(acl: &Acl) -> String {
    let word = |w: &Option<String>| w.clone().unwrap_or_default();
    let star = if acl.pattern.as_deref() == Some("PREFIXED") { "*" } else { "" };
    let (who, may, what) = (word(&acl.principal), word(&acl.permission), word(&acl.operation));
    format!("{may} {who} {what} on {} {}{star}", word(&acl.resource_type), word(&acl.resource))
}

/// One name, or several.
pub(super) fn names(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<String>> {
    match value.extract::<String>() {
        Ok(one) => Ok(vec![one]),
        Err(_) => Ok(value.extract().map_err(|_| Error::config(format!("{what} takes a name or a list of names")))?),
    }
}

impl PyConnection {
    /// Sends a request to the cluster. The result is a table.
    pub fn table(
        &self,
        py: Python<'_>,
        make: impl FnOnce(&Connection) -> Result<Rows> + Send + 'static,
    ) -> PyResult<PyTable> {
        let c = self.0.clone();
        table(py, move || make(&c))
    }
}
