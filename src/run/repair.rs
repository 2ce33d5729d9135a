//! Repairs a sealed epoch that a table refuses, because a different writer changed the table between the seal and the commit.
//!
//! `repair/N.json` is written by put-if-absent. It replaces entries of the seal: the same rows without the rows that a table refuses. The refused
//! rows go to quarantine. Every run that finishes the epoch commits what `repair/N.json` says. Nothing else may change a sealed epoch.

use super::changes::read_definition;
use super::commit::{Committer, STAGED, seal_to_commits};
use super::heartbeat;
use crate::epoch::*;
use crate::flow::{Aside, QUARANTINE};
use crate::sink::delta::{Table, TableSpec, present, without};
use crate::sink::quarantine::{self, Reject, RejectSource, Stage, row_as_json};
use crate::sink::{Changes, OutputMode, Refused, StagedRows, Writer, is_table};
use crate::storage::Location;
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result, state};
use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `repair/N.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepairFile {
    pub format_version: u32,
    pub epoch: i64,
    /// The nonce of the seal.
    pub nonce: String,
    pub clock: EventTime,
    /// These entries replace the seal's entries of the same names.
    pub tables: BTreeMap<String, SealedTable>,
}

fn name(epoch: i64) -> String {
    format!("repair/{epoch:020}.json")
}

/// The seal that must be committed, with the changes of `repair/N.json` if that file exists.
pub(super) async fn effective(log: &EpochLog, seal: Seal) -> Result<Seal> {
    let found: Option<RepairFile> = log.read(&name(seal.epoch)).await?;
    Ok(match found {
        Some(repair) if repair.nonce == seal.nonce => applied(seal, repair),
        _ => seal,
    })
}

fn applied(mut seal: Seal, repair: RepairFile) -> Seal {
    seal.tables.extend(repair.tables);
    seal
}

/// A row of the sealed epoch that a table refuses.
pub(crate) struct RefusedRow {
    pub table: String,
    pub rules: Vec<String>,
    pub error: String,
    pub row: String,
}

/// The locations of a query's parts.
pub(crate) struct Place {
    /// `_bayou/<query name>`
    pub checkpoint: Location,
    pub quarantine: Aside,
    pub name: String,
    pub open: Open,
}

/// Opens the place of a table: its name among the query's outputs, and the location that the seal says.
pub(crate) type Open = Box<dyn Fn(String, String) -> BoxFuture<'static, Result<Location>> + Send + Sync>;

/// The result of the check of one table's sealed rows.
struct Judged {
    rows: Vec<RefusedRow>,
    sealed: SealedTable,
}

/// Returns the rows of the newest sealed epoch that its tables refuse, if that epoch is not done. With `confirm` the refused rows go to
/// quarantine, and the other rows are committed.
pub(crate) async fn repair(place: &Place, confirm: bool, clock: &SharedClock) -> Result<Vec<RefusedRow>> {
    let display = place.checkpoint.display();
    let Some(generation) = newest_generation(&place.checkpoint).await? else {
        return Err(Error::config(format!(
            "{display}: there is no checkpoint of a query '{}' here. Give repair() the same arguments as the query: its target, and query_name= and \
             checkpoint_location= if the query has them.",
            place.name
        )));
    };
    let log = EpochLog::new(place.checkpoint.join(&generation.to_string()));
    let Some(epoch) = log.newest_seal().await? else { return Ok(vec![]) };
    let Some(seal) = log.read_seal(epoch).await? else { return Ok(vec![]) };
    if seal.definition == FENCE || log.read_done(epoch).await?.is_some() {
        return Ok(vec![]);
    }
    if confirm {
        heartbeat::check(&place.checkpoint, &place.name, clock).await?;
    }
    let definition = read_definition(&log, &seal.definition).await?;
    // Rows that were repaired before are checked in their repaired form.
    let seal = effective(&log, seal).await?;
    let (mut tables, mut out) = (BTreeMap::<String, Box<dyn Writer>>::new(), vec![]);
    let mut changed = BTreeMap::new();
    for (name, sealed) in seal.tables.iter().filter(|(n, t)| *n != QUARANTINE && is_table(&t.mode) && t.commit) {
        let known = definition.tables.get(name).ok_or_else(|| {
            Error::storage(format!("{display}: the definition of the query does not have the table '{name}'"))
        })?;
        let schema = std::sync::Arc::new(crate::expr::parse_ddl(&known.schema)?);
        let table = TableSpec {
            location: (place.open)(name.clone(), sealed.location.clone()).await?,
            declared: schema.clone(),
            schema,
            partition_by: known.partition_by.clone(),
            keys: vec![],
            mode: OutputMode::parse(&sealed.mode).unwrap_or(OutputMode::Append),
            name: None,
            comment: None,
            merge_schema: false,
            clock: clock.clone(),
        };
        let table = Table::ensure(table).await?.0;
        if table.transaction(&super::commit::app(&place.name, name)).await?.is_none_or(|t| t < epoch) {
            let judged = judge(&log, epoch, name, &table, sealed, confirm).await?;
            if !judged.rows.is_empty() {
                changed.insert(name.clone(), judged.sealed);
                out.extend(judged.rows);
            }
        }
        tables.insert(name.clone(), Box::new(table) as Box<dyn Writer>);
    }
    if !confirm || out.is_empty() {
        return Ok(out);
    }
    let rejects: Vec<Reject> = out
        .iter()
        .map(|r| Reject {
            stage: Stage::Table,
            dataset: r.table.as_str().into(),
            rules: r.rules.iter().map(|n| n.as_str().into()).collect(),
            error: r.error.as_str().into(),
            from: RejectSource::Row(r.row.clone()),
        })
        .collect();
    let aside = crate::flow::output::quarantine_sink(&place.quarantine, &place.name, clock).open().await?;
    let mut part = aside.staging()?.begin(&tokio::runtime::Handle::current());
    let rows = quarantine::rows(&rejects, epoch)?;
    // A push may block until the file writer takes the rows, and the file writer runs on this runtime.
    let part = tokio::task::spawn_blocking(move || part.push(rows).map(|()| part)).await;
    let staged = part.map_err(|e| Error::internal(e.to_string()))??.finish(Changes::default()).await?;
    let before = seal.tables.get(QUARANTINE);
    let mut all: Vec<serde_json::Value> = before.map(|t| t.adds.clone()).unwrap_or_default();
    all.extend(staged.files);
    changed.insert(
        QUARANTINE.into(),
        SealedTable {
            location: place.quarantine.address(),
            mode: place.quarantine.mode_name().into(),
            commit: true,
            rows: before.map_or(0, |t| t.rows) + rejects.len() as u64,
            adds: all,
            staged: None,
            keys: vec![],
            admitted: None,
        },
    );
    tables.insert(QUARANTINE.into(), aside);
    let file = RepairFile {
        format_version: FORMAT_VERSION,
        epoch,
        nonce: seal.nonce.clone(),
        clock: clock.now(),
        tables: changed,
    };
    let (file, _) = log.create(&name(epoch), &file).await?;
    let seal = applied(seal, file);
    // Only the query itself has the function and the connection to a topic, so the query commits to them.
    if seal.tables.values().any(|t| t.commit && !is_table(&t.mode)) {
        return Ok(out);
    }
    let mut committer = Committer::of(&place.name, tables)?;
    committer.known(log.read_done(epoch - 1).await?.as_ref());
    let commits = seal_to_commits(&log, &seal, &BTreeMap::new()).await?;
    committer.commit(&log, &seal, commits, clock).await?;
    Ok(out)
}

fn told(table: &str, batch: &RecordBatch, refused: &[Refused]) -> Vec<RefusedRow> {
    let one = |r: &Refused| RefusedRow {
        table: table.into(),
        rules: r.rules.iter().map(|n| n.to_string()).collect(),
        error: r.error.to_string(),
        row: row_as_json(batch, r.row as usize),
    };
    refused.iter().map(one).collect()
}

async fn judge(
    log: &EpochLog,
    epoch: i64,
    name: &str,
    table: &Table,
    sealed: &SealedTable,
    confirm: bool,
) -> Result<Judged> {
    let mut rows = vec![];
    let mut out = SealedTable { admitted: Some(table.fingerprint()), ..sealed.clone() };
    if let Some(file) = &sealed.staged {
        let StagedRows { schema, batches } = super::commit::read_staged(log, file).await?;
        let mut kept = vec![];
        for batch in &batches {
            let there = present(batch)?;
            let refused = table.judge(&there)?;
            rows.extend(told(name, &there, &refused));
            kept.push(without(batch, &refused.iter().map(|r| r.row).collect::<Vec<_>>())?);
        }
        if confirm && !rows.is_empty() {
            let bytes = state::encode(&schema, &kept, STAGED)?;
            out.staged = Some(log.write_file(format!("staged/{name}"), epoch, "rows", bytes).await?);
        }
    } else {
        let (mut adds, mut kept) = (vec![], vec![]);
        for value in &sealed.adds {
            let (mut good, mut any) = (vec![], false);
            table
                .judge_file(value, |batch, refused| {
                    rows.extend(told(name, batch, refused));
                    any |= !refused.is_empty();
                    let mut keep = vec![true; batch.num_rows()];
                    refused.iter().for_each(|r| keep[r.row as usize] = false);
                    good.push(arrow::compute::filter_record_batch(batch, &keep.into())?);
                    Ok(())
                })
                .await?;
            // Files without refused rows are kept unchanged.
            if any { kept.append(&mut good) } else { adds.push(value.clone()) }
        }
        if confirm && !rows.is_empty() {
            adds.extend(table.write(&kept).await?);
            out.adds = adds;
            out.rows = sealed.rows.saturating_sub(rows.len() as u64);
        }
    }
    Ok(Judged { rows, sealed: out })
}
