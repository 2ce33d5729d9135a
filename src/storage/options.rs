//! The options of a store, and how it is opened with them.

use super::provider;
use super::renew::Credentials;
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// The options of a store, as users give them.
#[derive(Clone, Default)]
pub struct StorageOptions {
    pub(super) fixed: BTreeMap<String, String>,
    /// The source of the options, if these have credentials that expire.
    pub(super) renewed: Option<Arc<Credentials>>,
    pub(super) mounts: Mounts,
}

/// What is done on mounts without put-if-absent, such as `/Volumes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mounts {
    /// They are refused: bayou would write there.
    #[default]
    Refused,
    /// Reading needs no put-if-absent.
    Read,
    /// The user says that no other process writes there.
    SingleWriter,
}

impl std::fmt::Debug for StorageOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Their values can be secret.
        f.write_str("StorageOptions(…)")
    }
}

impl StorageOptions {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn renewed(credentials: Arc<Credentials>) -> Self {
        Self { renewed: Some(credentials), ..Self::default() }
    }
    pub fn on_mounts(self, mounts: Mounts) -> Self {
        Self { mounts, ..self }
    }
    pub fn mounts(&self) -> Mounts {
        self.mounts
    }
    pub fn fixed(&self) -> &BTreeMap<String, String> {
        &self.fixed
    }
    /// Whether the user gave credentials of the store.
    pub fn has_credentials(&self) -> bool {
        self.renewed.is_some() || self.fixed.keys().any(|name| is_credential(&name.to_lowercase()))
    }
}

impl From<BTreeMap<String, String>> for StorageOptions {
    fn from(fixed: BTreeMap<String, String>) -> Self {
        Self { fixed, ..Self::default() }
    }
}

fn secrets(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    options.iter().filter(|(name, _)| crate::error::is_secret_name(name)).map(|(_, value)| value.as_str())
}

/// No text shows the secrets among these options from now on.
pub(super) fn learn(options: &BTreeMap<String, String>) {
    secrets(options).for_each(crate::error::learn_secret);
}

/// The same for secrets that are replaced by newer ones again and again.
pub(super) fn learn_passing(options: &BTreeMap<String, String>) {
    secrets(options).for_each(crate::error::learn_passing_secret);
}

/// The options that sign requests, as object_store names them, in all spellings.
fn is_credential(name: &str) -> bool {
    const NAMES: [&str; 26] = [
        "access_key_id",
        "secret_access_key",
        "session_token",
        "token",
        "skip_signature",
        "web_identity_token_file",
        "role_arn",
        "container_credentials_relative_uri",
        "container_credentials_full_uri",
        "storage_account_key",
        "account_key",
        "access_key",
        "master_key",
        "storage_account_master_key",
        "storage_sas_key",
        "storage_sas_token",
        "sas_key",
        "sas_token",
        "storage_token",
        "bearer_token",
        "client_secret",
        "federated_token_file",
        "use_azure_cli",
        "service_account",
        "service_account_key",
        "application_credentials",
    ];
    let bare =
        ["aws_", "azure_storage_", "azure_", "google_"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    NAMES.contains(&bare) || matches!(bare, "service_account_path" | "storage_client_secret")
}

/// Opens the store of a URL. As in delta-rs, the environment comes first, and the given options override it. With
/// `renewed`, each request is signed with the credentials of that moment.
pub(super) fn open_store(
    url: &Url,
    options: &BTreeMap<String, String>,
    renewed: Option<&Arc<Credentials>>,
) -> object_store::Result<(Arc<dyn ObjectStore>, Path)> {
    let mut all: BTreeMap<String, String> = std::env::vars()
        .filter(|(k, _)| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|p| k.starts_with(p)))
        .map(|(k, v)| (k.to_lowercase(), v))
        .collect();
    // All credentials come from one place. A session token or an account key of the environment would not fit the given options, and object_store
    // may prefer it.
    if options.keys().any(|name| is_credential(&name.to_lowercase())) {
        all.retain(|name, _| !is_credential(name));
    }
    learn(&all);
    if renewed.is_none() {
        learn(options);
    }
    all.extend(options.iter().map(|(k, v)| (k.to_lowercase(), v.clone())));
    // object_store's errors name the option and never its value. The Debug output of builders would print secrets and
    // is not used.
    provider::open(url, all, options, renewed)
}
