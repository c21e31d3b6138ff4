//! The door: what a client offers to speak, and the answer that grants one of it.

use std::pin::Pin;
use std::sync::Arc;

use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::channel::Side;
use crate::forward::{self, Dial};
use crate::negotiate::{self, ForwardProtocol};
use crate::relay::Body;
use crate::session::{self, Channels, Wishes};
use crate::websocket::{self, Form};

pub(crate) const SPDY: &str = "SPDY/3.1";
pub(crate) const WEBSOCKET: &str = "websocket";
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// What a client that offers none of them is told.
const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io, portforward.k8s.io";

/// A granted session, to be run once its answer has been sent.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
/// What the client is answered.
pub type Answer = Response<String>;
/// A connection after its upgrade.
pub(crate) type Socket = TokioIo<Upgraded>;

/// Why a client gets no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: StatusCode,
    /// For people.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(code: StatusCode, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }

    /// As plain text.
    #[must_use]
    pub fn answer(self) -> Answer {
        let mut answer = Response::new(format!("{}\n", self.text));
        *answer.status_mut() = self.code;
        if self.code == StatusCode::FORBIDDEN {
            answer.headers_mut().insert(ACCEPTED_PROTOCOLS, HeaderValue::from_static(PROTOCOLS));
        }
        answer
    }
}

/// What a client can speak.
#[derive(Debug, Clone)]
pub enum Offer {
    /// SPDY/3.1 with one of these protocols.
    Spdy {
        /// As offered.
        protocols: Vec<String>,
    },
    /// Websocket with one of these subprotocols.
    WebSocket {
        /// As offered.
        protocols: Vec<String>,
        /// The proof that its key was read.
        accept: HeaderValue,
    },
}

impl Offer {
    /// Reads a request for an upgrade.
    ///
    /// # Errors
    /// 400 when it asks for no upgrade that there is.
    pub fn read(headers: &HeaderMap) -> Result<Offer, Refusal> {
        let upgrade = list(headers, &UPGRADE);
        let offers = |name: &str| upgrade.iter().any(|offer| offer.eq_ignore_ascii_case(name));
        let bad = |text| Refusal::new(StatusCode::BAD_REQUEST, text);
        if offers(WEBSOCKET) {
            let key = headers.get(SEC_WEBSOCKET_KEY);
            let key = key.ok_or_else(|| bad("unable to upgrade: Sec-WebSocket-Key is missing"))?;
            let accept =
                HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header's value");
            return Ok(Offer::WebSocket { protocols: list(headers, &SEC_WEBSOCKET_PROTOCOL), accept });
        }
        if offers(SPDY) {
            return Ok(Offer::Spdy { protocols: list(headers, &STREAM_PROTOCOL) });
        }
        Err(bad("unable to upgrade: Upgrade must be SPDY/3.1 or websocket"))
    }

    /// Whether only those understand it that know the newest forms: channels that can be closed, or SPDY in a tunnel.
    #[must_use]
    pub fn is_new(&self) -> bool {
        match self {
            Offer::Spdy { .. } => false,
            Offer::WebSocket { protocols, .. } => {
                protocols.iter().any(|p| p == negotiate::CLOSABLE || p == negotiate::TUNNEL)
            }
        }
    }

    /// Grants an exec or attach.
    ///
    /// # Errors
    /// 403 without a protocol that both sides speak.
    pub fn command<F>(
        self,
        on_upgrade: OnUpgrade,
        wishes: Wishes,
        serve: impl FnOnce(Channels) -> F + Send + 'static,
    ) -> Result<(Answer, Work), Refusal>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            Offer::Spdy { protocols } => {
                let protocol = negotiate::spdy_command(&protocols).ok_or_else(|| no_common(&protocols))?;
                let work =
                    upgraded(on_upgrade, move |socket| session::over_spdy(socket, protocol, wishes, serve));
                Ok((to_spdy(protocol.name), work))
            }
            Offer::WebSocket { protocols, accept } => {
                let protocol =
                    negotiate::websocket_command(&protocols).ok_or_else(|| no_common(&protocols))?;
                let work = upgraded(on_upgrade, async move |socket| {
                    session::over_websocket(server(socket).await, protocol, wishes, serve).await;
                });
                Ok((to_websocket(accept, protocol.name), work))
            }
        }
    }

    /// Grants a websocket on which a body is told and nothing is heard: a log that is followed.
    ///
    /// # Errors
    /// 400 when SPDY is asked for, 403 without a protocol that both sides speak.
    pub fn body(self, on_upgrade: OnUpgrade, body: Body) -> Result<(Answer, Work), Refusal> {
        let Offer::WebSocket { protocols, accept } = self else {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "unable to upgrade: Upgrade must be websocket",
            ));
        };
        let (name, base64) = negotiate::websocket_body(&protocols).ok_or_else(|| no_common(&protocols))?;
        let work = upgraded(on_upgrade, async move |socket| {
            websocket::tell(server(socket).await, body, base64).await;
        });
        Ok((to_websocket(accept, name), work))
    }

    /// Grants a port-forward. `ports` are those that the request named: protocols that number their channels need them.
    ///
    /// # Errors
    /// 403 without a protocol that both sides speak, 400 for one that cannot forward these ports.
    pub fn port_forward(
        self,
        on_upgrade: OnUpgrade,
        ports: &[i32],
        dial: Arc<impl Dial>,
    ) -> Result<(Answer, Work), Refusal> {
        match self {
            Offer::Spdy { protocols } => {
                let name = negotiate::spdy_forward(&protocols).ok_or_else(|| no_common(&protocols))?;
                Ok((to_spdy(name), upgraded(on_upgrade, move |socket| forward::over_spdy(socket, dial))))
            }
            Offer::WebSocket { protocols, accept } => {
                match negotiate::websocket_forward(&protocols).ok_or_else(|| no_common(&protocols))? {
                    ForwardProtocol::Tunnel => {
                        let work = upgraded(on_upgrade, async move |socket| {
                            let (near, carry) = websocket::tunnel(server(socket).await, Side::Server);
                            tokio::join!(carry, forward::over_spdy(near, dial));
                        });
                        Ok((to_websocket(accept, Some(negotiate::TUNNEL)), work))
                    }
                    ForwardProtocol::Channels { name, base64 } => {
                        let ports = numbered(ports, base64)?;
                        let form = Form { base64, close: false };
                        let work = upgraded(on_upgrade, async move |socket| {
                            forward::over_websocket(server(socket).await, form, ports, dial).await;
                        });
                        Ok((to_websocket(accept, name), work))
                    }
                }
            }
        }
    }
}

/// Channels have one-byte numbers, in base64 one digit; two are used a port.
fn numbered(wanted: &[i32], base64: bool) -> Result<Vec<u16>, Refusal> {
    let most = if base64 { 5 } else { 127 };
    let ports: Result<Vec<u16>, _> = wanted.iter().map(|port| u16::try_from(*port)).collect();
    match ports {
        Ok(ports) if (1..=most).contains(&ports.len()) => Ok(ports),
        _ => {
            let text = format!("this protocol forwards 1 to {most} ports, named in the request");
            Err(Refusal::new(StatusCode::BAD_REQUEST, &text))
        }
    }
}

/// The comma-separated values of a header that may be there several times.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

pub(crate) fn no_common(offered: &[String]) -> Refusal {
    let text = format!("unable to upgrade: no common protocol, the client offers {}", offered.join(", "));
    Refusal::new(StatusCode::FORBIDDEN, &text)
}

fn switch(upgrade: &'static str) -> Answer {
    let mut answer = Response::new(String::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(upgrade));
    answer
}

fn to_spdy(protocol: Option<&'static str>) -> Answer {
    let mut answer = switch(SPDY);
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    answer
}

pub(crate) fn to_websocket(accept: HeaderValue, protocol: Option<&'static str>) -> Answer {
    let mut answer = switch(WEBSOCKET);
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    answer
}

pub(crate) fn upgraded<F>(on_upgrade: OnUpgrade, session: impl FnOnce(Socket) -> F + Send + 'static) -> Work
where
    F: Future<Output = ()> + Send,
{
    Box::pin(async move {
        match on_upgrade.await {
            Ok(socket) => session(TokioIo::new(socket)).await,
            Err(error) => tracing::debug!(%error, "a streaming client hung up before its session"),
        }
    })
}

pub(crate) async fn server(socket: Socket) -> WebSocketStream<Socket> {
    WebSocketStream::from_raw_socket(socket, Role::Server, Some(websocket::config())).await
}
