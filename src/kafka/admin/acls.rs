//! Access control lists.

use super::{Configured, Connection};
use crate::error::{Error, Result, did_you_mean};
use crate::kafka::context::failed;
use crate::kafka::ffi::cluster;
use crate::kafka::ffi::{
    Failure,
    acls::{self, Acl},
};
use rdkafka::types::RDKafkaErrorCode as Code;

fn no_authorizer(what: &str) -> Error {
    Error::config(format!(
        "{what}: the cluster has no authorizer (authorizer.class.name), so it has no ACLs and allows everything"
    ))
}

impl Acl {
    /// Checks the words that users write.
    pub fn check(&self) -> Result<()> {
        if let Some(operation) = &self.operation
            && !acls::operations().any(|o| o == operation)
        {
            let all: Vec<_> = acls::operations().collect();
            return Err(Error::config(format!(
                "'{operation}' is not an operation of an ACL.{} The operations are {}.",
                did_you_mean(operation, all.iter().copied()),
                all.join(", ")
            )));
        }
        if let Some(principal) = &self.principal
            && !principal.contains(':')
        {
            return Err(Error::config(format!(
                "'{principal}' is not a principal. Write the type in front of the name: \"User:{principal}\"."
            )));
        }
        Ok(())
    }
}

impl Connection {
    /// The ACLs that match the filter, ordered.
    pub fn acls(&self, filter: &Acl) -> Result<Vec<Acl>> {
        self.real("list ACLs")?;
        let what = format!("listing the ACLs of {}", self.address());
        let mut found = self.acl_answer(&what, |c, t| acls::describe(c, filter, t), "DESCRIBE")?;
        if found.is_empty() {
            // librdkafka 2.12 takes a refusal for an empty list.
            if self.ask(&what, cluster::may_describe)? == Some(false) {
                return Err(failed(&what, Code::ClusterAuthorizationFailed, "DESCRIBE on the cluster is missing"));
            }
            self.check_authorizer(&what)?;
        }
        found.sort();
        Ok(found)
    }

    /// Refuses a cluster that has no authorizer, if it lets its settings be seen.
    fn check_authorizer(&self, what: &str) -> Result<()> {
        let Some(broker) = self.brokers()?.first().map(|b| b.id) else { return Ok(()) };
        let settings = self.settings(&Configured::Broker(broker)).unwrap_or_default();
        match settings.iter().find(|s| s.name == "authorizer.class.name") {
            Some(setting) if setting.value.as_deref().unwrap_or_default().is_empty() => Err(no_authorizer(what)),
            _ => Ok(()),
        }
    }

    pub fn add_acl(&self, acl: &Acl) -> Result<()> {
        self.real("add ACLs")?;
        let what = format!("adding an ACL on {}", self.address());
        self.acl_answer(&what, |c, t| acls::create(c, acl, t), "ALTER")
    }

    /// Removes the ACLs that match the filter, and returns them.
    pub fn remove_acls(&self, filter: &Acl) -> Result<Vec<Acl>> {
        self.real("remove ACLs")?;
        let what = format!("removing ACLs on {}", self.address());
        let mut found = self.acl_answer(&what, |c, t| acls::delete(c, filter, t), "ALTER")?;
        found.sort();
        Ok(found)
    }

    fn acl_answer<T>(
        &self,
        what: &str,
        question: impl Fn(&rdkafka::client::Client<super::Watch>, std::time::Duration) -> std::result::Result<T, Failure>,
        right: &str,
    ) -> Result<T> {
        self.answered(question)?.map_err(|f| match f.code {
            Code::SecurityDisabled => no_authorizer(what),
            Code::ClusterAuthorizationFailed => {
                self.failure(what, &Failure { code: f.code, text: format!("{right} on the cluster is missing") })
            }
            _ => self.failure(what, &f),
        })
    }
}
