//! Requests and their answers.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto_kube::Resource;
use serde_json::Value;

use crate::{Config, Credentials, Watch, tls};

/// How long a request may take; a watch has no end.
const REQUEST_SECONDS_MAX: u64 = 60;
const CONNECT_SECONDS_MAX: u64 = 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address or the credentials are not usable.
    #[error("kubeconfig: {field}: {why}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The server cannot be reached, or broke off.
    #[error("{server} does not answer")]
    Connection {
        /// Its address.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{server} did not answer within {REQUEST_SECONDS_MAX} s")]
    Timeout {
        /// The server's address.
        server: String,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// As `NotFound`; empty when the answer was no `Status`.
        reason: String,
        /// For a person.
        message: String,
        /// The whole `Status`; null when the answer was none.
        status: Value,
    },
    /// The answer is not what the API promises.
    #[error("{server} answered with something other than {expected}")]
    Malformed {
        /// The server's address.
        server: String,
        /// As `JSON`.
        expected: &'static str,
    },
}

impl ClientError {
    /// The HTTP status code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// How a body changes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// With the schema's merge keys.
    Strategic,
    /// Server-side apply; needs the query `fieldManager`.
    Apply,
}

impl Patch {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// Query parameters, escaped as they are added.
#[derive(Debug, Clone, Default)]
pub struct Query(String);

impl Query {
    /// The same with one more; an empty value adds nothing.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            let _ = write!(self.0, "{name}={}", escape(value));
        }
        self
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

type Http = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The body of an answer, wherever it comes from.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A server in this process: answers a request as the user that it was made for.
pub type Local =
    Arc<dyn Fn(Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync>;

/// The connections to a server.
struct Pool {
    connector: HttpsConnector<HttpConnector>,
    credentials: Option<Credentials>,
    /// With the age of the credentials that they were made with.
    current: Mutex<(u64, Http)>,
}

impl Pool {
    fn new(connector: HttpsConnector<HttpConnector>, credentials: Option<Credentials>) -> Self {
        let age = credentials.as_ref().map_or(0, Credentials::age);
        Self { current: Mutex::new((age, connections(connector.clone()))), connector, credentials }
    }

    /// Connections with the credentials of this moment. Requests on older ones go on.
    fn http(&self) -> Http {
        let age = self.credentials.as_ref().map_or(0, Credentials::age);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != age {
            *current = (age, connections(self.connector.clone()));
        }
        current.1.clone()
    }
}

fn connections(connector: HttpsConnector<HttpConnector>) -> Http {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(30))
        .build(connector)
}

/// How a request gets to the server.
#[derive(Clone)]
enum Transport {
    Http(Arc<Pool>),
    Local(Local),
}

/// A client of one server. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    server: String,
    namespace: String,
    authorization: Option<HeaderValue>,
    agent: HeaderValue,
}

impl Client {
    /// A client that calls itself `agent` (`program/version`), which is what its changes are recorded under.
    ///
    /// # Errors
    /// When the configuration is not usable; nothing is sent yet.
    pub fn new(config: &Config, agent: &str) -> Result<Self, ClientError> {
        Self::over(config, tls::client_config(config)?, agent)
    }

    /// [`Client::new`] with the TLS that it is given.
    pub(crate) fn over(config: &Config, tls: rustls::ClientConfig, agent: &str) -> Result<Self, ClientError> {
        let unfit = |field, why: &dyn std::fmt::Display| ClientError::Config { field, why: why.to_string() };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(CONNECT_SECONDS_MAX)));
        let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        if let Some(name) = &config.server_name {
            let name = rustls::pki_types::ServerName::try_from(name.clone())
                .map_err(|error| unfit("tls-server-name", &error))?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let connector = builder.enable_all_versions().wrap_connector(connector);
        let pool = Pool::new(connector, config.credentials.clone());
        let authorization = match &config.token {
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|error| unfit("token", &error))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            transport: Transport::Http(Arc::new(pool)),
            server: config.server.clone(),
            namespace: config.namespace.clone(),
            authorization,
            agent: HeaderValue::from_str(agent).map_err(|error| unfit("user agent", &error))?,
        })
    }

    /// A client of a server in this process: no connection, no TLS, no credentials. `agent` as in [`Client::new`].
    #[must_use]
    pub fn local(server: Local, agent: &'static str) -> Self {
        Self {
            transport: Transport::Local(server),
            server: "http://this-process".to_owned(),
            namespace: String::new(),
            authorization: None,
            agent: HeaderValue::from_static(agent),
        }
    }

    /// The namespace of a request that names none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// An object.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, &resource.path(namespace, name), None).await
    }

    /// A list, in one piece.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: &str,
        query: Query,
    ) -> Result<Value, ClientError> {
        self.call(Method::GET, &(resource.path(namespace, "") + &query.0), None).await
    }

    /// Creates an object and gives what became of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: &Value,
        query: Query,
    ) -> Result<Value, ClientError> {
        let body = Some(("application/json", Bytes::from(object.to_string())));
        self.call(Method::POST, &(resource.path(namespace, "") + &query.0), body).await
    }

    /// Replaces an object, or its subresource.
    ///
    /// # Errors
    /// See [`ClientError`]; 409 when the object's `resourceVersion` is not the current one.
    pub async fn update(
        &self,
        resource: &Resource,
        subresource: Option<&str>,
        object: &Value,
        query: Query,
    ) -> Result<Value, ClientError> {
        let (namespace, name) = (proto_kube::object::namespace(object), proto_kube::object::name(object));
        let path = below(resource.path(namespace, name), subresource);
        let body = Some(("application/json", Bytes::from(object.to_string())));
        self.call(Method::PUT, &(path + &query.0), body).await
    }

    /// Changes an object, or its subresource.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch(
        &self,
        (resource, namespace, name): (&Resource, &str, &str),
        subresource: Option<&str>,
        (kind, body): (Patch, &Value),
        query: Query,
    ) -> Result<Value, ClientError> {
        let path = below(resource.path(namespace, name), subresource);
        let body = Some((kind.media_type(), Bytes::from(body.to_string())));
        self.call(Method::PATCH, &(path + &query.0), body).await
    }

    /// Deletes an object; `options` is a `DeleteOptions` object or null. Gives the object when it stays for a while, else
    /// a `Status`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Value, ClientError> {
        let body = (!options.is_null()).then(|| ("application/json", Bytes::from(options.to_string())));
        self.call(Method::DELETE, &resource.path(namespace, name), body).await
    }

    /// Starts a watch; see [`Query`] for `resourceVersion`, `allowWatchBookmarks` and the selectors.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn watch(
        &self,
        resource: &Resource,
        namespace: &str,
        query: Query,
    ) -> Result<Watch, ClientError> {
        let path = resource.path(namespace, "") + &query.with("watch", "true").0;
        let response = self.send(Method::GET, &path, None, "application/json").await?;
        Ok(Watch::new(self.server.clone(), response.into_body()))
    }

    /// Any request, answered with JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<Value, ClientError> {
        let bytes = self.bytes(method, path, body, "application/json").await?;
        serde_json::from_slice(&bytes)
            .map_err(|_| ClientError::Malformed { server: self.server.clone(), expected: "JSON" })
    }

    /// Any request, answered with bytes of the media types in `accept`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        accept: &str,
    ) -> Result<Bytes, ClientError> {
        let answer = async {
            let response = self.send(method, path, body, accept).await?;
            Ok(response.into_body().collect().await.map_err(|e| self.broken(e))?.to_bytes())
        };
        let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
        let late = |_| ClientError::Timeout { server: self.server.clone() };
        tokio::time::timeout(limit, answer).await.map_err(late)?
    }

    /// What a path answers, as it comes: a log that is followed has no end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stream(&self, path: &str) -> Result<Body, ClientError> {
        Ok(self.send(Method::GET, path, None, "*/*").await?.into_body())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        accept: &str,
    ) -> Result<Response<Body>, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        request = request.header(ACCEPT, accept).header(USER_AGENT, &self.agent);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let (media_type, body) = body.unwrap_or_default();
        if !media_type.is_empty() {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| ClientError::Config { field: "server", why: error.to_string() })?;
        let response = match &self.transport {
            Transport::Http(pool) => {
                let response = pool.http().request(request).await.map_err(|e| self.broken(e))?;
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            }
            Transport::Local(server) => server(request).await,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = response.into_body().collect().await.map_err(|e| self.broken(e))?.to_bytes();
        Err(refused(code, &body))
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection { server: self.server.clone(), source: source.into() }
    }
}

fn below(path: String, subresource: Option<&str>) -> String {
    subresource.map_or(path.clone(), |name| format!("{path}/{name}"))
}

fn refused(code: StatusCode, body: &[u8]) -> ClientError {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let message = match text("message") {
        none if none.is_empty() => format!("{code}: {}", String::from_utf8_lossy(body).trim()),
        message => message,
    };
    ClientError::Refused { code: code.as_u16(), reason: text("reason"), message, status }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_is_escaped() {
        let query = Query::default().with("labelSelector", "a in (b,c)").with("limit", "").with("x", "ü");
        assert_eq!(query.0, "?labelSelector=a%20in%20%28b%2Cc%29&x=%C3%BC");
    }

    #[test]
    fn a_refusal_is_told() {
        let status = json!({"kind": "Status", "reason": "NotFound", "message": "pods \"x\" not found"});
        let error = refused(StatusCode::NOT_FOUND, status.to_string().as_bytes());
        assert_eq!(error.to_string(), "pods \"x\" not found");
        assert_eq!(error.code(), Some(404));
        let error = refused(StatusCode::BAD_GATEWAY, b"no backend\n");
        assert_eq!(error.to_string(), "502 Bad Gateway: no backend");
    }
}
