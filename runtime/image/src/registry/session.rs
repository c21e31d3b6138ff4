//! One image's conversation with its registry and mirrors: requests, redirects, credentials and tokens.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::{Duration, timeout};

use super::auth::{Challenge, challenges, percent_encode};
use super::client::HttpClient;
use super::hosts::Host;
use super::{Credentials, Patience, RegistryError};
use crate::reference::Reference;

const REDIRECTS_MAX: u32 = 10;
/// An error's text or a token must not be larger.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Of an error's text so much is shown.
const DETAIL_CHARACTERS_MAX: usize = 300;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// A conversation about one image.
pub(crate) struct Session {
    pub(super) reference: Reference,
    credentials: Option<Credentials>,
    pub(super) places: Vec<Place>,
    pub(super) patience: Patience,
}

/// A host, with what has been found out about it.
pub(super) struct Place {
    pub(super) host: Host,
    client: HttpClient,
    /// The `Authorization` that it takes.
    authorization: Mutex<Option<HeaderValue>>,
}

/// What is asked for.
pub(super) struct Ask<'a> {
    /// Below the repository, e.g. `manifests/latest`.
    pub(super) path: &'a str,
    /// For people.
    pub(super) what: &'a str,
    pub(super) accept: &'static str,
    /// Begin at this byte.
    pub(super) offset: u64,
    /// A digest will tell whether the content is right, so that it may come over an open connection.
    pub(super) verified: bool,
}

impl Session {
    pub(super) fn new(
        reference: Reference,
        credentials: Option<Credentials>,
        places: Vec<(Host, HttpClient)>,
        patience: Patience,
    ) -> Session {
        let places =
            places.into_iter().map(|(host, client)| Place { host, client, authorization: Mutex::default() });
        Session { reference, credentials, places: places.collect(), patience }
    }

    /// Asks once, with the credentials that the place demands. Any answer but 200 and 206 is an error, with the time
    /// after which the registry wants to be asked again.
    pub(super) async fn ask(
        &self,
        place: &Place,
        ask: &Ask<'_>,
    ) -> Result<Response<Incoming>, (RegistryError, Option<Duration>)> {
        let response = self.answered(place, ask).await.map_err(|e| (e, None))?;
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(response);
        }
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        let (host, what) = (place.host.authority.clone(), ask.what.to_owned());
        let detail = self.detail(response).await;
        let error = match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { host, what, detail },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let known = if self.credentials.is_some() {
                    "the credentials do not suffice"
                } else {
                    "no credentials"
                };
                RegistryError::Unauthorized { host, what, reason: format!("{known}{detail}") }
            }
            _ => RegistryError::Status { host, what, status: status.as_u16(), detail },
        };
        Err((error, after))
    }

    async fn answered(&self, place: &Place, ask: &Ask<'_>) -> Result<Response<Incoming>, RegistryError> {
        let known = place.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.follow(place, ask, known).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // Nothing was known, or the token has expired.
        let Some(fresh) = self.authorize(place, ask, response.headers()).await? else { return Ok(response) };
        *place.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
        drop(response);
        self.follow(place, ask, Some(fresh)).await
    }

    /// Sends the request, and again to where it is redirected. Another host gets neither credentials nor headers.
    async fn follow(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let host = &place.host;
        let mut uri = self.uri(host, ask)?;
        let refused = |location: &str, reason| RegistryError::Redirect {
            host: host.authority.clone(),
            what: ask.what.to_owned(),
            location: location.to_owned(),
            reason,
        };
        for _ in 0..REDIRECTS_MAX {
            let mut request = Request::new(Full::default());
            let headers = request.headers_mut();
            headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
            headers.insert(http::header::USER_AGENT, HeaderValue::from_static("cleat"));
            if ask.offset > 0 {
                let range = HeaderValue::from_str(&format!("bytes={}-", ask.offset));
                headers.insert(RANGE, range.map_err(|_| refused("", "no range"))?);
            }
            if uri.scheme_str() == Some(host.scheme)
                && uri.authority().is_some_and(|a| a.as_str() == host.authority)
            {
                headers.extend(host.headers.iter().cloned());
                authorization.iter().for_each(|value| drop(headers.insert(AUTHORIZATION, value.clone())));
            }
            *request.uri_mut() = uri.clone();
            let response = self.send(place, ask.what, request).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location =
                response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let next = redirect(&uri, location).ok_or_else(|| refused(location, "it is no URL"))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") && !ask.verified {
                return Err(refused(location, "it leaves TLS"));
            }
            uri = next;
        }
        Err(refused(&uri.to_string(), "too many"))
    }

    fn uri(&self, host: &Host, ask: &Ask<'_>) -> Result<Uri, RegistryError> {
        let mut text =
            format!("{}://{}{}/{}/{}", host.scheme, host.authority, host.path, self.reference.path, ask.path);
        if host.mirror {
            text.push_str(&format!("?ns={}", percent_encode(&self.reference.domain)));
        }
        text.parse().map_err(|e: http::uri::InvalidUri| self.broken(host, ask.what, &e))
    }

    async fn send(
        &self,
        place: &Place,
        what: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, RegistryError> {
        match timeout(self.patience.stall, place.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.broken(&place.host, what, &error)),
            Err(_) => Err(self.stalled(&place.host, what)),
        }
    }

    /// What will satisfy a demand for credentials; `None` if there is nothing that could.
    async fn authorize(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credentials = self.credentials.as_ref().filter(|_| !place.host.mirror);
        if let Some(Credentials::RegistryToken(token)) = credentials {
            return Ok(secret(&format!("Bearer {token}")));
        }
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for challenge in texts.flat_map(challenges) {
            match challenge {
                Challenge::Basic => {
                    if let Some(basic) = credentials.and_then(Credentials::basic) {
                        return Ok(secret(&basic));
                    }
                }
                Challenge::Bearer { realm, service, scope } => {
                    let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.path));
                    let parameters = [("service", service.unwrap_or_default()), ("scope", scope)];
                    let token = self.token(place, ask, &realm, &parameters, credentials).await?;
                    return Ok(secret(&format!("Bearer {token}")));
                }
            }
        }
        Ok(None)
    }

    /// Fetches a token from the realm that the registry named.
    async fn token(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        realm: &str,
        parameters: &[(&str, String)],
        credentials: Option<&Credentials>,
    ) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let host = place.host.authority.clone();
        let denied = |reason: String| {
            let reason = format!("token from {realm}: {reason}");
            RegistryError::Unauthorized { host: host.clone(), what: ask.what.to_owned(), reason }
        };
        if credentials.is_some() && place.host.scheme == "https" && !realm.starts_with("https://") {
            return Err(denied("the credentials are not sent over an open connection".to_owned()));
        }
        let request = token_request(realm, parameters, credentials).map_err(|e| denied(e.to_string()))?;
        let what = format!("token from {realm}");
        let response = self.send(place, &what, request).await?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let detail = self.detail(response).await;
            return Err(RegistryError::Status { host, what, status: status.as_u16(), detail });
        }
        if !status.is_success() {
            return Err(denied(format!("status {}{}", status.as_u16(), self.detail(response).await)));
        }
        let body =
            self.small_body(response).await.ok_or_else(|| denied("the answer broke off".to_owned()))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|e| denied(e.to_string()))?;
        match [answer.token, answer.access_token].into_iter().find(|token| !token.is_empty()) {
            Some(token) => Ok(token),
            None => Err(denied("the answer has none".to_owned())),
        }
    }

    /// What the registry says about an error, with a colon before it (distribution-spec: error codes).
    async fn detail(&self, response: Response<Incoming>) -> String {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Problem>,
        }
        #[derive(Deserialize)]
        struct Problem {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let body = self.small_body(response).await.unwrap_or_default();
        let text = match serde_json::from_slice::<Errors>(&body) {
            Ok(Errors { errors }) => {
                errors.iter().map(|e| format!("{} {}", e.code, e.message)).collect::<Vec<_>>().join(", ")
            }
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text: String = text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARACTERS_MAX).collect();
        if text.is_empty() || text.starts_with('<') { String::new() } else { format!(": {text}") }
    }

    async fn small_body(&self, response: Response<Incoming>) -> Option<Bytes> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        Some(timeout(self.patience.stall, body).await.ok()?.ok()?.to_bytes())
    }

    pub(super) fn broken(&self, host: &Host, what: &str, error: &dyn std::error::Error) -> RegistryError {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
        }
        RegistryError::Connection { host: host.authority.clone(), what: what.to_owned(), reason }
    }

    pub(super) fn stalled(&self, host: &Host, what: &str) -> RegistryError {
        let seconds = self.patience.stall.as_secs();
        RegistryError::Stalled { host: host.authority.clone(), what: what.to_owned(), seconds }
    }
}

/// A header value that does not show in logs.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Asks for a token: with an identity token as OAuth2 has it, else as docker's registries do.
fn token_request(
    realm: &str,
    parameters: &[(&str, String)],
    credentials: Option<&Credentials>,
) -> http::Result<Request<Full<Bytes>>> {
    let known = parameters.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<_> = known.map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    let query = query.join("&");
    if let Some(Credentials::IdentityToken(token)) = credentials {
        let token = percent_encode(token);
        let form = format!("grant_type=refresh_token&client_id=cleat&refresh_token={token}&{query}");
        return Request::builder()
            .method(Method::POST)
            .uri(realm)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form));
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let request = Request::builder().uri(format!("{realm}{separator}{query}"));
    match credentials.and_then(Credentials::basic).as_deref().and_then(secret) {
        Some(basic) => request.header(AUTHORIZATION, basic),
        None => request,
    }
    .body(Full::default())
}

/// Where a `Location` leads from `base`.
fn redirect(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = match location {
        "" => return None,
        full if full.starts_with("http://") || full.starts_with("https://") => full.to_owned(),
        rest if rest.starts_with("//") => format!("{scheme}:{rest}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        beside => {
            let path = base.path();
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{beside}")
        }
    };
    absolute.parse().ok().filter(|uri: &Uri| uri.authority().is_some())
}
