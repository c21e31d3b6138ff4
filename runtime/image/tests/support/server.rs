//! A registry that does what a test tells it to, well or badly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Content;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first byte of a range asked for.
    pub fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }

    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

/// An answer, with its faults.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Announce this length instead of the real one.
    pub length: Option<usize>,
    /// Announce no length: the body ends with the connection.
    pub open_ended: bool,
    /// After so many bytes of the body hang up.
    pub cut: Option<usize>,
    /// After so many bytes of the body (or the headers, with `Some(0)`) say nothing more.
    pub stall: Option<usize>,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

pub struct Server {
    pub port: u16,
    pub log: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (handler, kept): (Arc<Handler>, _) = (Arc::new(handler), log.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), kept.clone()));
            }
        });
        Server { port, log, task }
    }

    pub fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().expect("a log").clone()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Asked>>>) {
    loop {
        let Some(asked) = request(&mut stream).await else { return };
        log.lock().expect("a log").push(asked.clone());
        let answer = handler(&asked);
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        if !answer.open_ended {
            head += &format!("content-length: {}\r\n", answer.length.unwrap_or(answer.body.len()));
        }
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let end = answer.cut.or(answer.stall).unwrap_or(answer.body.len()).min(answer.body.len());
        if answer.stall != Some(0) {
            let sent = [head.as_bytes(), &answer.body[..end]].concat();
            if stream.write_all(&sent).await.is_err() {
                return;
            }
        }
        if answer.stall.is_some() {
            // Longer than any test waits; the server's end ends it.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if answer.cut.is_some() || answer.open_ended || answer.length.is_some() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, v)| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Asked { path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// What an honest registry answers.
pub fn honest(content: &Content, asked: &Asked) -> Answer {
    let Some((_, last)) = asked.path.rsplit_once('/') else { return Answer::status(404) };
    if asked.path.contains("/manifests/") {
        let Some((media_type, body)) = content.manifests.get(last) else {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec();
            return Answer { status: 404, body, ..Answer::default() };
        };
        return Answer { status: 200, body: body.clone(), ..Answer::default() }
            .with("content-type", media_type);
    }
    let blob = last.parse().ok().and_then(|digest| content.blobs.get(&digest));
    let Some(blob) = blob else { return Answer::status(404) };
    let offset = asked.offset();
    if offset == 0 {
        return Answer { status: 200, body: blob.clone(), ..Answer::default() };
    }
    let range = format!("bytes {offset}-{}/{}", blob.len() - 1, blob.len());
    Answer { status: 206, body: blob[offset..].to_vec(), ..Answer::default() }.with("content-range", &range)
}
