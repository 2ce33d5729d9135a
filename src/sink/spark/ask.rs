//! Requests to Spark, each on a thread of its own: an answer may take long, and threads of storage must not wait for Python's lock.

use super::SparkTable;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// `request`: the parts of the request besides the table.
pub(super) async fn ask(table: &SparkTable, what: &'static str, request: Value) -> Result<Value> {
    on_a_thread(table, what, request, None).await
}

/// As `ask`, one at a time for each table: a commit that a stopped run has left running ends before the next run's commit begins.
pub(super) async fn in_turn(table: &SparkTable, what: &'static str, request: Value) -> Result<Value> {
    static AT_WORK: LazyLock<parking_lot::Mutex<HashMap<String, Arc<Mutex<()>>>>> = LazyLock::new(Default::default);
    let turn = AT_WORK.lock().entry(table.sql.clone()).or_default().clone();
    on_a_thread(table, what, request, Some(turn.lock_owned().await)).await
}

async fn on_a_thread(
    table: &SparkTable,
    what: &'static str,
    mut request: Value,
    turn: Option<OwnedMutexGuard<()>>,
) -> Result<Value> {
    request["table"] = table.sql.as_str().into();
    request["shown"] = table.describe().into();
    let (session, shown) = (table.session.clone(), table.describe());
    let (say, hear) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("bayou-spark".into())
        .spawn(move || {
            let said = session.ask(what, &request);
            drop(turn);
            let _ = say.send(said);
        })
        .map_err(|e| Error::internal(format!("no thread: {e}")))?;
    hear.await.unwrap_or_else(|_| Err(Error::internal(format!("{shown}: a request to Spark ended without an answer"))))
}
