//! The schema registry: the audit schema's id, and what kind of schema an id of an input record names.
//!
//! Two ways to fail, since they are answered differently: a registry that does not answer is waited for, one that says no
//! needs a person.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Client, ClientBuilder, Method, StatusCode};
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id, perform_sr_call, post_schema},
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SrCall, SuppliedSchema},
};
use serde::Deserialize;

use crate::{
    config::{RegistrySettings, Secret},
    error::Failure,
    wire::{audit::AUDIT_SCHEMA, avro_event::WriterSchema},
};

/// Longest wait for one answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Ids remembered at most; a topic has a handful.
const IDS_MAX: usize = 10_000;
/// Text of schemas that are remembered at most: what they are read into takes several times as much.
const SCHEMA_BYTES_MAX: usize = 1 << 20;
/// How long an id counts as unknown: it may be registered later.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// What audit schemas must stay compatible with.
const COMPATIBILITY: &str = "BACKWARD";

/// Why the registry did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Does not answer, or answers that it cannot now: to be tried again.
    #[error("schema registry cannot be reached: {0}")]
    Unreachable(String),
    /// Says no: a schema that is not compatible, a wrong password. Only a person can mend it.
    #[error("schema registry refused: {0}")]
    Refused(String),
    /// Its certificate is from nobody whom dosi trusts, or for another name. Only a person can mend it.
    #[error("the schema registry's certificate is not trusted: {0} (DOSI_SCHEMA_REGISTRY_CA_FILE, host name)")]
    Untrusted(String),
}

impl RegistryError {
    /// What no answer at all means, from the text of its causes.
    fn no_answer(causes: String) -> Self {
        // OpenSSL puts the reason into parentheses behind it.
        let untrusted = causes.split_once("certificate verify failed").and_then(|(_, rest)| {
            let (_, reason) = rest.split_once('(')?;
            Some(reason.split_once(')')?.0.to_owned())
        });
        untrusted.map_or(Self::Unreachable(causes), Self::Untrusted)
    }

    /// Trying again would help nobody.
    pub fn needs_person(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Untrusted(_))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        if error.needs_person() { Self::Setup(error.to_string()) } else { Self::Failed(error.into()) }
    }
}

/// What an id of a framed record names.
#[derive(Clone, Debug)]
pub enum SchemaKind {
    Json,
    Avro(Arc<WriterSchema>),
    /// Nothing that dosi can read values of: Protobuf, or an Avro schema that refers to others.
    Other,
    /// The registry does not know the id.
    Unknown,
}

/// What was found at the audit subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectState {
    pub subject: String,
    /// The schema was not there before.
    pub registered: bool,
    /// The subject's own rule, when it was there before and is another than BACKWARD.
    pub differing_compatibility: Option<String>,
}

/// A client of the registry.
pub struct Registry {
    settings: RegistrySettings,
    /// What the library calls with.
    calls: SrSettings,
    kinds: Mutex<Kinds>,
}

/// What ids name, and since when that is known.
#[derive(Default)]
struct Kinds {
    by_id: HashMap<u32, (SchemaKind, Instant)>,
    /// Text of the schemas in it.
    schema_bytes: usize,
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("base", &self.settings.url.base).finish_non_exhaustive()
    }
}

/// The subject of a topic's values.
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

impl Registry {
    /// Makes a client; nothing is sent yet.
    pub fn connect(settings: &RegistrySettings) -> Result<Self, Failure> {
        let mut builder = SrSettings::new_builder(settings.url.base.clone());
        builder.set_timeout(REQUEST_TIMEOUT);
        if let Some((user, password)) = settings.credentials() {
            builder.set_basic_authorization(user, password.map(Secret::expose));
        }
        let built = builder.build_with(client_builder(settings)?);
        let calls = built.map_err(|error| Failure::Usage(format!("DOSI_SCHEMA_REGISTRY_URL: {error}")))?;
        Ok(Self { settings: settings.clone(), calls, kinds: Mutex::default() })
    }

    /// The id of the audit schema for values of `audit_topic`; registers it where it is missing.
    pub async fn audit_schema_id(&self, audit_topic: &str) -> Result<u32, RegistryError> {
        let subject = value_subject(audit_topic);
        match self.registered_id(&subject).await? {
            Some(id) => Ok(id),
            None => self.register_first(&subject).await,
        }
    }

    /// Registers the audit schema and sets the subject's rule, each where it is missing; changes nothing that is there.
    pub async fn prepare_audit_subject(&self, audit_topic: &str) -> Result<SubjectState, RegistryError> {
        let subject = value_subject(audit_topic);
        let registered = self.registered_id(&subject).await?.is_none();
        if registered {
            self.register_first(&subject).await?;
        }
        let differing_compatibility = match self.compatibility(&subject).await? {
            None => {
                self.set_compatibility(&subject).await?;
                None
            }
            Some(level) => (level != COMPATIBILITY).then_some(level),
        };
        Ok(SubjectState { subject, registered, differing_compatibility })
    }

    /// What kind of schema an id names. Ids never change their meaning, so the answer is kept; that an id is unknown only a
    /// short while.
    pub async fn schema_type(&self, id: u32) -> Result<SchemaKind, RegistryError> {
        if let Some(kind) = self.remembered(id) {
            return Ok(kind);
        }
        let (kind, schema_bytes) = match get_schema_by_id(id, &self.calls).await {
            Ok(schema) => kind_of(&schema.schema_type, &schema.schema),
            Err(error) if says_unknown(&error) => (SchemaKind::Unknown, 0),
            // A registry that answers with something else (wrong password, its own fault) has not said that the id is unknown.
            Err(error) => return Err(RegistryError::Unreachable(cause(&error))),
        };
        self.remember(id, kind.clone(), schema_bytes);
        Ok(kind)
    }

    /// What [`Self::schema_type`] knows without asking.
    pub fn remembered(&self, id: u32) -> Option<SchemaKind> {
        // Ids are signed: some registries do not even understand the question.
        if i32::try_from(id).is_err() {
            return Some(SchemaKind::Unknown);
        }
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, since) = kinds.by_id.get(&id)?;
        let counts = !matches!(kind, SchemaKind::Unknown) || since.elapsed() < UNKNOWN_FOR;
        counts.then(|| kind.clone())
    }

    fn remember(&self, id: u32, kind: SchemaKind, schema_bytes: usize) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if schema_bytes > 0 && kinds.by_id.contains_key(&id) {
            // Another lane asked at the same time.
            return;
        }
        if kinds.by_id.len() >= IDS_MAX || kinds.schema_bytes + schema_bytes > SCHEMA_BYTES_MAX {
            *kinds = Kinds::default();
        }
        kinds.schema_bytes += schema_bytes;
        kinds.by_id.insert(id, (kind, Instant::now()));
    }

    async fn registered_id(&self, subject: &str) -> Result<Option<u32>, RegistryError> {
        let body = serde_json::json!({ "schema": AUDIT_SCHEMA, "schemaType": "AVRO" }).to_string();
        match perform_sr_call(&self.calls, SrCall::PostForVersion(subject, &body)).await {
            Ok(found) => Ok(found.id),
            Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Registers the schema; a subject that begins with it gets its rule too. One that is there keeps its own: some registries
    /// do not tell an own rule from none.
    async fn register_first(&self, subject: &str) -> Result<u32, RegistryError> {
        let is_new = match perform_sr_call(&self.calls, SrCall::GetLatest(subject)).await {
            Ok(_) => false,
            Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => true,
            Err(error) => return Err(classify(&error)),
        };
        let id = self.register(subject).await?;
        if is_new {
            self.set_compatibility(subject).await?;
        }
        Ok(id)
    }

    async fn register(&self, subject: &str) -> Result<u32, RegistryError> {
        let schema = SuppliedSchema::new(None, SchemaType::Avro, AUDIT_SCHEMA.to_owned());
        let posted = post_schema(&self.calls, subject.to_owned(), schema).await;
        posted.map(|registered| registered.id).map_err(|error| match classify(&error) {
            RegistryError::Refused(message) => RegistryError::Refused(format!("subject {subject}: {message}")),
            other => other,
        })
    }

    /// The subject's own rule; `None` when it has none.
    async fn compatibility(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            compatibility_level: String,
        }
        let response = self.send(Method::GET, subject, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let config: Config = accepted(response).await?.json().await.map_err(|error| unreadable(&error))?;
        Ok(Some(config.compatibility_level))
    }

    async fn set_compatibility(&self, subject: &str) -> Result<(), RegistryError> {
        let body = serde_json::json!({ "compatibility": COMPATIBILITY });
        let response = self.send(Method::PUT, subject, Some(body)).await?;
        accepted(response).await.map(drop)
    }

    /// To the subject's rule, which the library does not know. A client for each call: making one takes as long as reading the
    /// system's certificates, and only set-up asks.
    async fn send(
        &self,
        method: Method,
        subject: &str,
        body: Option<serde_json::Value>,
    ) -> Result<reqwest::Response, RegistryError> {
        let client = client_builder(&self.settings).map_err(|failure| RegistryError::Refused(failure.to_string()))?;
        let client = client.build().map_err(|error| RegistryError::no_answer(with_causes(&error)))?;
        let mut request = client.request(method, format!("{}/config/{subject}", self.settings.url.base));
        if let Some((user, password)) = self.settings.credentials() {
            request = request.basic_auth(user, password.map(Secret::expose));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.map_err(|error| RegistryError::no_answer(with_causes(&error)))
    }
}

/// The registry stands beside the brokers: a proxy of the environment is not asked.
fn client_builder(settings: &RegistrySettings) -> Result<ClientBuilder, Failure> {
    let mut builder = Client::builder().timeout(REQUEST_TIMEOUT).no_proxy();
    if let Some(certificates) = &settings.certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(certificates.pem());
        let certificates = certificates
            .map_err(|error| Failure::Usage(format!("DOSI_SCHEMA_REGISTRY_CA_FILE: {}", with_causes(&error))))?;
        builder = builder.tls_certs_only(certificates);
    }
    Ok(builder)
}

/// With the bytes of what is kept of the schema.
fn kind_of(schema_type: &SchemaType, schema: &str) -> (SchemaKind, usize) {
    match schema_type {
        SchemaType::Json => (SchemaKind::Json, 0),
        SchemaType::Avro => WriterSchema::parse(schema)
            .map_or((SchemaKind::Other, 0), |parsed| (SchemaKind::Avro(Arc::new(parsed)), schema.len())),
        _ => (SchemaKind::Other, 0),
    }
}

/// Whether it is the registry that says so: the page of a proxy in front of it must not cost events their place.
fn says_unknown(error: &SRCError) -> bool {
    const UNKNOWN: [StatusCode; 3] = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY];
    status(error).is_some_and(|status| UNKNOWN.contains(&status)) && own_words(error).is_some()
}

/// The registry's own words; a body that is none of them the library gives as one without a code.
fn own_words(error: &SRCError) -> Option<&RawError> {
    let source = std::error::Error::source(error);
    source?.downcast_ref::<RawError>().filter(|answer| answer.error_code != 0)
}

fn classify(error: &SRCError) -> RegistryError {
    match status(error) {
        Some(status) => refusal(status, cause(error)),
        None => RegistryError::no_answer(cause(error)),
    }
}

/// The registry's own faults and "too many requests" pass; other answers than success do not.
fn refusal(status: StatusCode, message: String) -> RegistryError {
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if status.is_server_error() || passes {
        RegistryError::Unreachable(message)
    } else {
        RegistryError::Refused(message)
    }
}

/// The HTTP status of an answer that was none of success; the library tells it in its message only.
fn status(error: &SRCError) -> Option<StatusCode> {
    let (_, tail) = error.error.split_once("failed with status ")?;
    tail.split_whitespace().next()?.parse().ok()
}

fn cause(error: &SRCError) -> String {
    if let Some(answer) = own_words(error) {
        return format!("{} ({})", answer.message, answer.error_code);
    }
    // An answer without such words has nothing to tell beside its status.
    let source = std::error::Error::source(error).filter(|source| !source.is::<RawError>());
    source.map_or_else(|| error.error.clone(), with_causes)
}

/// reqwest tells what happened only in the causes.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn unreadable(error: &reqwest::Error) -> RegistryError {
    RegistryError::Refused(format!("its answer cannot be read, is it a schema registry? {}", with_causes(error)))
}

async fn accepted(response: reqwest::Response) -> Result<reqwest::Response, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let answer = response.json::<RawError>().await;
    let message = answer.map_or_else(|_| format!("HTTP status {status}"), |error| error.message);
    Err(refusal(status, message))
}

#[cfg(test)]
mod tests;
