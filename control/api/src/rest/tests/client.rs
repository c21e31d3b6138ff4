//! A client that calls the handler itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use proto_kube::User;
use serde_json::Value;

use crate::config::Config;
use crate::info::RequestInfo;
use crate::query::Query;
use crate::reply::{self, Body, Response};
use crate::server::{Context, Server};

/// A client of a fresh server.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
}

/// An answer that was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) media: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) bytes: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    /// A text in the body.
    pub(crate) fn text(&self, pointer: &str) -> String {
        match self.json().pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    pub(crate) fn message(&self) -> String {
        self.text("/message")
    }

    pub(crate) fn revision(&self) -> i64 {
        self.text("/metadata/resourceVersion").parse().expect("a revision")
    }

    /// Panics unless the code is this one.
    pub(crate) fn is(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
}

async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let text = |name: &str| {
        let values = parts.headers.get_all(name).iter();
        values.map(|v| v.to_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    Answer {
        code: parts.status.as_u16(),
        media: text("content-type").concat(),
        warnings: text("warning"),
        bytes: body.collect().await.expect("a whole body").to_bytes(),
    }
}

impl Client {
    pub(crate) async fn new() -> Self {
        let server = Server::open(Config::in_memory()).await.expect("opens in memory");
        Self { server }
    }

    /// Sends a request as the administrator.
    pub(crate) async fn send(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        let user = User { name: "admin".to_owned(), groups, ..User::default() };
        self.send_as(user, method, uri, headers, body).await
    }

    /// Sends a request as somebody without any role.
    pub(crate) async fn ask_as(&self, name: &str, method: &str, uri: &str, body: &str) -> Answer {
        let user = User {
            name: name.to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            ..User::default()
        };
        read(self.send_as(user, method, uri, &[], body.to_owned()).await).await
    }

    async fn send_as(
        &self,
        user: User,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = Query::parse(query);
        let ctx = Context {
            user,
            info: RequestInfo::new(method, path, &query),
            query,
            user_agent: "test/1".to_owned(),
            now: self.server.now(),
        };
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(reply::full(body)).expect("a request");
        super::super::handle(&self.server, ctx, request).await
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        read(self.send(method, uri, headers, body).await).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.ask("GET", uri, &[], "").await
    }

    pub(crate) async fn post(&self, uri: &str, object: &Value) -> Answer {
        self.ask("POST", uri, &[], object.to_string()).await
    }

    pub(crate) async fn put(&self, uri: &str, object: &Value) -> Answer {
        self.ask("PUT", uri, &[], object.to_string()).await
    }

    pub(crate) async fn patch(&self, uri: &str, kind: &str, patch: &str) -> Answer {
        let media = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.ask("PATCH", uri, &[("content-type", &media)], patch.to_owned()).await
    }

    pub(crate) async fn delete(&self, uri: &str, options: &str) -> Answer {
        self.ask("DELETE", uri, &[], options.to_owned()).await
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, uri: &str) -> Events {
        let response = self.send("GET", uri, &[], "").await;
        assert_eq!(response.status(), 200);
        Events { body: response.into_body(), rest: Vec::new() }
    }
}

/// The events of a watch, one after the other.
pub(crate) struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame());
            let frame = frame.await.expect("an event in time")?.expect("no break");
            self.rest.extend_from_slice(&frame.into_data().expect("data"));
        }
    }

    /// Type and name of the next event.
    pub(crate) async fn line(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", text("/type"), text("/object/metadata/name"))
    }
}
