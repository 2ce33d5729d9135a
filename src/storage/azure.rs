//! Azure's Blob Storage, where each file is deleted by a request of its own.
//!
//! object_store deletes in batches. A batch is a request to the container, which a signature for a folder (Unity Catalog gives those) does not
//! allow, and OneLake does not have batches. On Azure, deleting costs nothing, so single requests are no dearer.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::path::Path;
use object_store::{
    ClientOptions, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How many files are deleted at the same time.
const AT_ONCE: usize = 20;
/// How often a request is sent, and the pause before the second one. The pause doubles.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Azure(Arc<Place>);

/// Where the files are, and how a request gets there.
struct Place {
    account: String,
    /// The URL of the container.
    container: Url,
    client: HttpClient,
    signs: bool,
    inner: MicrosoftAzure,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.inner.fmt(f)
    }
}

impl fmt::Display for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.inner.fmt(f)
    }
}

impl Azure {
    /// `url` and `options`: those that `builder` was made of.
    pub(super) fn new(url: &Url, options: &BTreeMap<String, String>, builder: MicrosoftAzureBuilder) -> Result<Self> {
        let (account, container, emulated) = container_url(url, &builder)?;
        let known = |(key, value): (&String, &String)| Some((key.parse::<ClientConfigKey>().ok()?, value.clone()));
        let mut client = ClientOptions::new();
        for (key, value) in options.iter().filter_map(known) {
            client = client.with_config(key, value);
        }
        if emulated {
            client = client.with_allow_http(true);
        }
        let skips = builder.get_config_value(&AzureConfigKey::SkipSignature);
        let signs = !skips.is_some_and(|s| is_true(&s));
        let inner = builder.build()?;
        let client = ReqwestConnector::default().connect(&client)?;
        Ok(Self(Arc::new(Place { account, container, client, signs, inner })))
    }
}

fn is_true(text: &str) -> bool {
    ["1", "true", "on", "yes", "y"].contains(&text.to_lowercase().as_str())
}

/// The account, the URL of the container, and whether it is the emulator's. The same rules as object_store's, which does not show its URL.
fn container_url(url: &Url, builder: &MicrosoftAzureBuilder) -> Result<(String, Url, bool)> {
    let wrong = |why: &str| Error::Generic { store: "MicrosoftAzure", source: format!("{url}: {why}").into() };
    let of = |key: AzureConfigKey| builder.get_config_value(&key).filter(|v| !v.is_empty());
    let host = url.host_str().ok_or_else(|| wrong("a container is missing"))?;
    let mut account = of(AzureConfigKey::AccountName);
    let mut fabric = of(AzureConfigKey::UseFabricEndpoint).is_some_and(|v| is_true(&v));
    let mut of_host = || {
        if let Some((name, domain)) = host.split_once('.') {
            account = Some(name.to_string());
            fabric |= domain.ends_with("fabric.microsoft.com");
        }
    };
    let container = match (url.scheme(), url.username()) {
        ("https", _) => {
            of_host();
            url.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default().to_string()
        }
        (_, "") => host.to_string(),
        (_, container) => {
            of_host();
            container.to_string()
        }
    };
    let emulated = of(AzureConfigKey::UseEmulator).is_some_and(|v| is_true(&v));
    let account = match (account, emulated) {
        (Some(account), _) => account,
        (None, true) => "devstoreaccount1".to_string(),
        (None, false) => return Err(wrong("the name of the account is missing: azure_storage_account_name")),
    };
    let service = if emulated {
        std::env::var("AZURITE_BLOB_STORAGE_URL").unwrap_or_else(|_| "http://127.0.0.1:10000".into())
    } else {
        let domain = if fabric { "fabric.microsoft.com" } else { "core.windows.net" };
        of(AzureConfigKey::Endpoint).unwrap_or_else(|| format!("https://{account}.blob.{domain}"))
    };
    let mut service: Url = service.parse().map_err(|e| wrong(&format!("the endpoint is not a URL: {e}")))?;
    {
        let mut path = service.path_segments_mut().map_err(|()| wrong("the endpoint has no path"))?;
        path.pop_if_empty();
        if emulated {
            path.push(&account);
        }
        path.push(&container);
    }
    Ok((account, service, emulated))
}

impl Place {
    async fn delete(&self, path: &Path) -> Result<()> {
        let (mut pause, mut attempt) = (PAUSE, 1);
        loop {
            match self.try_once(path).await {
                Err((e, Some(wait))) if attempt < ATTEMPTS => {
                    log::debug!(target: "bayou::storage", "deleting {path}: {e}. It is tried again");
                    tokio::time::sleep(wait.max(pause)).await;
                    (pause, attempt) = (pause * 2, attempt + 1);
                }
                done => return done.map_err(|(e, _)| e),
            }
        }
    }

    /// If the error may pass by itself, the result also has the pause that the server asks for.
    async fn try_once(&self, path: &Path) -> std::result::Result<(), (Error, Option<Duration>)> {
        let generic =
            |e: Box<dyn std::error::Error + Send + Sync>| Error::Generic { store: "MicrosoftAzure", source: e };
        let mut url = self.container.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.extend(path.parts().map(|p| p.as_ref().to_string()));
        }
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = "DELETE".parse().map_err(|e| (generic(Box::new(e)), None))?;
        *request.uri_mut() = url.as_str().parse().map_err(|e| (generic(Box::new(e)), None))?;
        if self.signs {
            let credential = self.inner.credentials().get_credential().await.map_err(|e| (e, None))?;
            AzureAuthorizer::new(&credential, &self.account).authorize(&mut request);
        }
        // The URL may have a signature, so errors do not show it.
        let answer = self.client.execute(request).await.map_err(|e| (generic(Box::new(e)), Some(Duration::ZERO)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let code = header("x-ms-error-code").unwrap_or_default();
        let source = format!("the store answered {status} {code} to a DELETE").into();
        let path = path.to_string();
        match status.as_u16() {
            404 => Err((Error::NotFound { path, source }, None)),
            401 => Err((Error::Unauthenticated { path, source }, None)),
            403 => Err((Error::PermissionDenied { path, source }, None)),
            408 | 429 | 500.. => Err((generic(source), Some(asked(&header)))),
            _ => Err((generic(source), None)),
        }
    }
}

/// The pause that the server asks for, at most a minute.
fn asked(header: &dyn Fn(&str) -> Option<String>) -> Duration {
    let seconds = header("retry-after").and_then(|s| s.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(Duration::from_secs(60))
}

#[async_trait]
impl ObjectStore for Azure {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.inner.put_opts(path, data, options).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.inner.get_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let place = self.0.clone();
        let one = move |path: Result<Path>| {
            let place = place.clone();
            async move {
                let path = path?;
                place.delete(&path).await.map(|()| path)
            }
        };
        paths.map(one).buffered(AT_ONCE).boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str, options: &[(&str, &str)]) -> String {
        let url: Url = url.parse().unwrap();
        let builder = options.iter().fold(MicrosoftAzureBuilder::new().with_url(url.as_str()), |b, (key, value)| {
            b.with_config(key.parse().unwrap(), *value)
        });
        container_url(&url, &builder).map_or_else(|e| e.to_string(), |(account, url, _)| format!("{account} {url}"))
    }

    #[test]
    fn the_container_is_found_in_each_way_of_writing_it() {
        let account = [("azure_storage_account_name", "acc")];
        let usual = "acc https://acc.blob.core.windows.net/lake";
        assert_eq!(found("az://lake/t", &account), usual);
        assert_eq!(found("abfss://lake@acc.dfs.core.windows.net/t", &[]), usual);
        assert_eq!(found("https://acc.blob.core.windows.net/lake/t", &[]), usual);
        let one = "onelake https://onelake.blob.fabric.microsoft.com/space";
        assert_eq!(found("abfss://space@onelake.dfs.fabric.microsoft.com/t.Lakehouse", &[]), one);
        let endpoint = [("azure_storage_account_name", "acc"), ("azure_storage_endpoint", "http://127.0.0.1:1/acc/")];
        assert_eq!(found("az://lake/t", &endpoint), "acc http://127.0.0.1:1/acc/lake");
        let emulator = [("azure_storage_use_emulator", "true")];
        assert_eq!(found("az://lake/t", &emulator), "devstoreaccount1 http://127.0.0.1:10000/devstoreaccount1/lake");
        assert!(found("az://lake/t", &[]).contains("azure_storage_account_name"));
    }
}
