//! Consumer groups of other readers: list, describe, lag, and the offsets from which they continue.

use super::Connection;
use crate::error::{Error, Result, did_you_mean};
use crate::kafka::ffi::{
    Failure,
    groups::{self, GroupDescription},
};
use crate::position::{Offset, Positions, TopicPartition};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    pub group: String,
    /// "Stable", "Empty", "PreparingRebalance", …
    pub state: String,
    /// "Classic" or "Consumer".
    pub kind: String,
    /// None if the credentials may not describe the group.
    pub members: Option<usize>,
}

impl Connection {
    /// Refuses a broker without consumer groups.
    pub fn check_groups(&self) -> Result<()> {
        self.real("keep offsets of consumer groups")
    }

    /// All groups that these credentials may see, by name.
    pub fn groups(&self) -> Result<Vec<GroupSummary>> {
        self.real("list consumer groups")?;
        let what = format!("listing the consumer groups of {}", self.address());
        let mut listed = self.ask(&what, groups::list)?;
        listed.sort_by(|a, b| a.group.cmp(&b.group));
        let names: Vec<&str> = listed.iter().map(|g| g.group.as_str()).collect();
        let described = match names.is_empty() {
            true => vec![],
            false => self.ask(&what, |client, timeout| groups::describe(client, &names, timeout))?,
        };
        let members: BTreeMap<String, usize> =
            described.into_iter().flatten().map(|d| (d.group, d.members.len())).collect();
        let summary = |g: groups::Listing| GroupSummary {
            members: members.get(&g.group).copied(),
            group: g.group,
            state: g.state,
            kind: g.kind,
        };
        Ok(listed.into_iter().map(summary).collect())
    }

    pub fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        self.real("describe consumer groups")?;
        let what = format!("describing consumer group '{group}' on {}", self.address());
        let empty = || Failure { code: Code::Fail, text: "the broker's answer is empty".into() };
        let found = self.answered(|client, timeout| {
            let described = groups::describe(client, &[group], timeout)?;
            described.into_iter().next().unwrap_or_else(|| Err(empty()))
        })?;
        match found {
            Err(f) if f.code == Code::GroupIdNotFound => Err(self.no_group(group)),
            Err(f) => Err(self.group_failure(&what, &f)),
            // Brokers before 4.0 describe any name.
            Ok(d) if d.state == "Dead" => Err(self.no_group(group)),
            Ok(d) => Ok(d),
        }
    }

    /// The committed offsets of a group.
    pub fn group_offsets(&self, group: &str) -> Result<Positions> {
        self.real("read offsets of consumer groups")?;
        let what = format!("reading the offsets of consumer group '{group}' on {}", self.address());
        let answer = self.answered(|client, timeout| groups::offsets(client, group, timeout))?;
        let mut out = Positions::new();
        for (tp, offset) in answer.map_err(|f| self.group_failure(&what, &f))? {
            if let Some(offset) = offset.map_err(|f| self.group_failure(&format!("{what}: {tp}"), &f))? {
                out.insert(tp, Offset(offset));
            }
        }
        if out.is_empty() {
            // A group without offsets and a group that does not exist look the same here.
            self.describe_group(group)?;
        }
        Ok(out)
    }

    /// Commits offsets for a group. The group must not have members.
    pub fn set_group_offsets(&self, group: &str, offsets: &Positions) -> Result<()> {
        self.real("move consumer groups")?;
        let what = format!("moving consumer group '{group}' on {}", self.address());
        let list: Vec<_> = offsets.iter().map(|(tp, o)| (tp.clone(), o.0)).collect();
        if list.is_empty() {
            return Ok(());
        }
        let answer = self.answered(|client, timeout| groups::set_offsets(client, group, &list, timeout))?;
        for (tp, answer) in answer.map_err(|f| self.group_failure(&what, &f))? {
            answer.map_err(|f| self.group_failure(&format!("{what}: {tp}"), &f))?;
        }
        Ok(())
    }

    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.real("delete consumer groups")?;
        let what = format!("deleting consumer group '{group}' on {}", self.address());
        let answer = self.answered(|client, timeout| groups::delete(client, group, timeout))?;
        match answer {
            Ok(()) => Ok(()),
            Err(f) if f.code == Code::GroupIdNotFound => Err(self.no_group(group)),
            Err(f) => Err(self.group_failure(&what, &f)),
        }
    }

    /// Where the members of a group read, by partition.
    pub fn readers(&self, group: &str) -> Result<BTreeMap<TopicPartition, groups::Member>> {
        let members = self.describe_group(group)?.members;
        Ok(members.into_iter().flat_map(|m| m.partitions.clone().into_iter().map(move |tp| (tp, m.clone()))).collect())
    }

    fn no_group(&self, group: &str) -> Error {
        let known = self.ask("listing consumer groups", groups::list).unwrap_or_default();
        Error::config(format!(
            "consumer group '{group}' does not exist on {}, or these credentials may not see it.{} consumer_groups() lists the groups.",
            self.address(),
            did_you_mean(group, known.iter().map(|g| g.group.as_str()))
        ))
    }

    fn group_failure(&self, what: &str, failure: &Failure) -> Error {
        let text = match failure.code {
            Code::NonEmptyGroup | Code::UnknownMemberId | Code::RebalanceInProgress | Code::IllegalGeneration => {
                return Error::config(format!(
                    "{what}: the group has members that read now. Stop them first, and wait until their session ends (describe_group shows them)."
                ));
            }
            Code::GroupAuthorizationFailed => "these credentials need READ (to look: DESCRIBE) on the group".into(),
            Code::TopicAuthorizationFailed => "these credentials need READ on the topic".into(),
            _ => failure.text.clone(),
        };
        self.failure(what, &Failure { code: failure.code, text })
    }
}
