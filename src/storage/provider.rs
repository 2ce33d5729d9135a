//! Stores that ask for their credentials with each request. A store keeps the credentials that it is built with, and so
//! do the later parts of an upload, the later pages of a listing and the later requests of a removal of many files.

use super::azure::Azure;
use super::renew::Credentials;
use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path;
use object_store::{CredentialProvider, ObjectStore, ObjectStoreScheme, Result, StaticCredentialProvider};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use url::Url;

type Options = BTreeMap<String, String>;

/// The credentials of the moment, as one cloud needs them.
struct Renewing<T> {
    credentials: Arc<Credentials>,
    /// None: these options have no credentials of this kind.
    read: fn(&Options) -> Option<T>,
}

impl<T> fmt::Debug for Renewing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewing(…)")
    }
}

#[async_trait]
impl<T: fmt::Debug + Send + Sync + 'static> CredentialProvider for Renewing<T> {
    type Credential = T;

    async fn get_credential(&self) -> Result<Arc<T>> {
        let held = self.credentials.get(None).await?;
        let found = (self.read)(&lower(&held.options));
        found.map(Arc::new).ok_or_else(|| object_store::Error::Generic {
            store: "credentials",
            source: "the newer credentials are of a different kind than the first ones".into(),
        })
    }
}

fn lower(options: &Options) -> Options {
    options.iter().map(|(k, v)| (k.to_lowercase(), v.clone())).collect()
}

fn first(options: &Options, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| options.get(*name)).cloned()
}

fn aws(options: &Options) -> Option<AwsCredential> {
    Some(AwsCredential {
        key_id: first(options, &["aws_access_key_id", "access_key_id"])?,
        secret_key: first(options, &["aws_secret_access_key", "secret_access_key"])?,
        token: first(options, &["aws_session_token", "aws_token", "session_token", "token"]),
    })
}

fn azure(options: &Options) -> Option<AzureCredential> {
    if let Some(token) = first(options, &["azure_storage_token", "bearer_token", "token"]) {
        return Some(AzureCredential::BearerToken(token));
    }
    let key = ["azure_storage_account_key", "azure_storage_access_key", "account_key", "access_key"];
    if let Some(key) = first(options, &key) {
        return AzureAccessKey::try_new(&key).ok().map(AzureCredential::AccessKey);
    }
    let sas = first(options, &["azure_storage_sas_key", "azure_storage_sas_token", "sas_key", "sas_token"])?;
    // In a signature, a plus is a plus.
    let sas = sas.trim_start_matches('?').replace('+', "%2B");
    let pairs = url::form_urlencoded::parse(sas.as_bytes()).into_owned().collect();
    Some(AzureCredential::SASToken(pairs))
}

fn google(options: &Options) -> Option<GcpCredential> {
    first(options, &["google_bearer_token", "bearer_token"]).map(|bearer| GcpCredential { bearer })
}

/// The provider for these options, if they have credentials that it can read.
macro_rules! provider {
    ($options:expr, $renewed:expr, $read:ident) => {
        $renewed
            .filter(|_| $read(&lower($options)).is_some())
            .map(|c| Arc::new(Renewing { credentials: c.clone(), read: $read }))
    };
}

/// A builder with the options that its cloud knows.
macro_rules! configured {
    ($builder:ty, $url:expr, $all:expr) => {
        $all.into_iter().fold(<$builder>::new().with_url($url.as_str()), |builder, (key, value)| match key.parse() {
            Ok(key) => builder.with_config(key, value),
            Err(_) => builder,
        })
    };
}

/// The store of a URL. `all`: the given options over those of the environment.
pub(super) fn open(
    url: &Url,
    mut all: Options,
    given: &Options,
    renewed: Option<&Arc<Credentials>>,
) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let (scheme, path) = ObjectStoreScheme::parse(url)?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 if provider!(given, renewed, aws).is_some() => {
            let mut builder = configured!(AmazonS3Builder, url, all);
            if let Some(provider) = provider!(given, renewed, aws) {
                builder = builder.with_credentials(provider);
            }
            Arc::new(builder.build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let mut builder = configured!(MicrosoftAzureBuilder, url, all.clone());
            if let Some(provider) = provider!(given, renewed, azure) {
                builder = builder.with_credentials(provider);
            }
            Arc::new(Azure::new(url, &all, builder)?)
        }
        ObjectStoreScheme::GoogleCloudStorage if google(&all).is_some() => {
            // object_store takes such a token only from a provider.
            let bearer = all.remove("google_bearer_token").or_else(|| all.remove("bearer_token")).unwrap_or_default();
            let builder = configured!(GoogleCloudStorageBuilder, url, all);
            match provider!(given, renewed, google) {
                Some(provider) => Arc::new(builder.with_credentials(provider).build()?),
                None => {
                    let fixed = Arc::new(StaticCredentialProvider::new(GcpCredential { bearer }));
                    Arc::new(builder.with_credentials(fixed).build()?)
                }
            }
        }
        _ => Arc::from(object_store::parse_url_opts(url, all)?.0),
    };
    Ok((store, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn credentials_of_each_cloud_are_read_from_the_options() {
        let found = aws(&of(&[("aws_access_key_id", "k"), ("secret_access_key", "s"), ("aws_session_token", "t")]));
        let found = found.unwrap();
        assert_eq!((&*found.key_id, &*found.secret_key, found.token.as_deref()), ("k", "s", Some("t")));
        assert!(aws(&of(&[("aws_access_key_id", "k")])).is_none(), "an instance profile is left to object_store");
        let sas = azure(&of(&[("azure_storage_sas_key", "?sv=2022&sig=a%2Bb%2F+c%3D")]));
        let Some(AzureCredential::SASToken(pairs)) = sas else { panic!("no signature") };
        assert_eq!(pairs, [("sv".to_string(), "2022".to_string()), ("sig".to_string(), "a+b/+c=".to_string())]);
        assert!(matches!(azure(&of(&[("bearer_token", "b")])), Some(AzureCredential::BearerToken(t)) if t == "b"));
        assert!(matches!(azure(&of(&[("account_key", "a2V5")])), Some(AzureCredential::AccessKey(_))));
        assert!(azure(&of(&[("azure_client_id", "x")])).is_none());
        assert_eq!(google(&of(&[("google_bearer_token", "g")])).unwrap().bearer, "g");
    }
}
