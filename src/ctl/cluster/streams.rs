//! Into containers through the API server: logs, exec, attach, port-forward, cp.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use client::{Bytes, Connection, Query};
use http_body_util::BodyExt;
use proto_kube::{Resource, object, resource};
use rustix::termios::isatty;
use serde_json::Value;
use stream::client::{ClientError, Far, PortForward, Stdio};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::terminal::{Raw, sizes};
use super::{AGENT, Cluster};
use crate::args::{Attach, Copy, Exec, Forward, Logs};

fn pods() -> &'static Resource {
    resource::find("", "v1", "pods").expect("pods are served")
}

/// The name of a pod that may be written `pod/NAME`.
fn name(pod: &str) -> &str {
    pod.strip_prefix("pod/").or_else(|| pod.strip_prefix("pods/")).unwrap_or(pod)
}

pub(super) async fn logs(cluster: &Cluster, logs: &Logs) -> anyhow::Result<()> {
    let flag = |set: bool| if set { "true" } else { "" };
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let query = Query::default()
        .with("container", logs.container.as_deref().unwrap_or_default())
        .with("follow", flag(logs.follow))
        .with("previous", flag(logs.previous))
        .with("timestamps", flag(logs.timestamps))
        .with("tailLines", &number(logs.tail))
        .with("sinceSeconds", &number(logs.since));
    let path = format!("{}/log{query}", pods().path(&cluster.namespace, name(&logs.pod)));
    let mut body = cluster.client.stream(&path).await?;
    let mut out = tokio::io::stdout();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| anyhow!("the log broke off: {error}"))?.into_data() {
            out.write_all(&data).await?;
            out.flush().await?;
        }
    }
    Ok(())
}

/// A session's streams, as a query says it.
struct Wanted<'a> {
    container: Option<&'a str>,
    stdin: bool,
    tty: bool,
}

impl Wanted<'_> {
    fn query(&self, command: &[String]) -> String {
        let mut query = Query::default()
            .with("container", self.container.unwrap_or_default())
            .with("stdin", if self.stdin { "true" } else { "" })
            .with("stdout", "true")
            .with("stderr", if self.tty { "" } else { "true" })
            .with("tty", if self.tty { "true" } else { "" })
            .to_string();
        for word in command {
            // An empty word is one too.
            let word = Query::default().with("command", word).to_string();
            query.push('&');
            query.push_str(word.strip_prefix('?').unwrap_or("command="));
        }
        query
    }
}

async fn far(cluster: &Cluster, pod: &str, rest: &str) -> anyhow::Result<Far<Box<dyn Bytes>>> {
    let Connection { socket, authority, headers } = Connection::open(&cluster.config, AGENT).await?;
    let path = pods().path(&cluster.namespace, name(pod));
    Ok(Far { socket, place: format!("{authority}{path}/{rest}"), headers })
}

/// What the server said when it refused: the message of its `Status`.
fn told(error: ClientError) -> anyhow::Error {
    match &error {
        ClientError::Refused { text, .. } => match serde_json::from_str::<Value>(text) {
            Ok(status) if !object::text(&status, &["message"]).is_empty() => {
                anyhow!("{}", object::text(&status, &["message"]))
            }
            _ if !text.is_empty() => anyhow!("{text}"),
            _ => error.into(),
        },
        _ => error.into(),
    }
}

pub(super) async fn exec(cluster: &Cluster, exec: &Exec) -> anyhow::Result<ExitCode> {
    let wanted = Wanted { container: exec.container.as_deref(), stdin: exec.stdin, tty: exec.tty };
    interactive(cluster, &exec.pod, wanted, |wanted| format!("exec{}", wanted.query(&exec.command))).await
}

pub(super) async fn attach(cluster: &Cluster, attach: &Attach) -> anyhow::Result<ExitCode> {
    let wanted = Wanted { container: attach.container.as_deref(), stdin: attach.stdin, tty: attach.tty };
    interactive(cluster, &attach.pod, wanted, |wanted| format!("attach{}", wanted.query(&[]))).await
}

async fn interactive(
    cluster: &Cluster,
    pod: &str,
    mut wanted: Wanted<'_>,
    rest: impl Fn(&Wanted<'_>) -> String,
) -> anyhow::Result<ExitCode> {
    let stdin = std::io::stdin();
    let terminal = wanted.tty && wanted.stdin && isatty(&stdin);
    if wanted.tty && !terminal {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    wanted.tty = terminal;
    let far = far(cluster, pod, &rest(&wanted)).await?;
    let raw = terminal.then(|| Raw::enter(stdin.as_fd())).transpose().context("setting the terminal")?;
    let streams = Stdio {
        stdin: wanted.stdin.then(|| Box::new(tokio::io::stdin()) as _),
        stdout: Some(Box::new(tokio::io::stdout())),
        stderr: Some(Box::new(tokio::io::stderr())),
        resize: terminal.then(sizes).transpose()?,
    };
    let code = stream::client::run(far, streams).await;
    drop(raw);
    let code = code.map_err(told)?;
    if code != 0 {
        eprintln!("command terminated with exit code {code}");
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// `[LOCAL:]REMOTE`; an empty LOCAL is any free port.
fn port(text: &str) -> anyhow::Result<(u16, u16)> {
    let bad = || anyhow!("{text:?} is no port: write PORT, LOCAL:PORT, or :PORT for a free one here");
    let number = |text: &str| text.parse::<u16>().ok();
    let (local, remote) = match text.split_once(':') {
        Some(("", remote)) => (Some(0), number(remote)),
        Some((local, remote)) => (number(local), number(remote)),
        None => (number(text), number(text)),
    };
    local.zip(remote).filter(|(_, remote)| *remote > 0).ok_or_else(bad)
}

pub(super) async fn port_forward(cluster: &Cluster, forward: &Forward) -> anyhow::Result<()> {
    let mut listeners = Vec::new();
    for (local, remote) in forward.ports.iter().map(|text| port(text)).collect::<anyhow::Result<Vec<_>>>()? {
        let listener = TcpListener::bind((forward.address, local)).await;
        let listener = listener.with_context(|| format!("listening on {}:{local}", forward.address))?;
        println!("Forwarding from {} -> {remote}", listener.local_addr()?);
        listeners.push((listener, remote));
    }
    let far = far(cluster, &forward.pod, "portforward").await?;
    let (session, run) = PortForward::connect(far).await.map_err(told)?;
    let session = tokio::sync::Mutex::new(session);
    let accept = |listener: TcpListener, remote: u16| {
        let session = &session;
        async move {
            loop {
                let (socket, _) = listener.accept().await?;
                println!("Handling connection for {}", listener.local_addr()?.port());
                let forwarded = session.lock().await.open(remote).await?;
                tokio::spawn(async move {
                    if let Err(error) = forwarded.copy(socket).await {
                        eprintln!("{error}");
                    }
                });
            }
            #[expect(unreachable_code, reason = "it gives the block its type")]
            anyhow::Ok(())
        }
    };
    let all = futures_util::future::try_join_all(listeners.into_iter().map(|(l, remote)| accept(l, remote)));
    tokio::select! {
        () = run => bail!("lost connection to pod"),
        ended = all => ended.map(drop),
    }
}

/// One end of a copy.
enum End<'a> {
    Here(&'a Path),
    There { pod: &'a str, path: &'a str },
}

fn end(text: &str) -> End<'_> {
    match text.split_once(':') {
        // A path may hold a colon, a pod's name no slash but that of its type.
        Some((pod, path)) if !name(pod).contains('/') && !pod.starts_with('.') && !pod.is_empty() => {
            End::There { pod, path }
        }
        _ => End::Here(Path::new(text)),
    }
}

pub(super) async fn copy(cluster: &Cluster, copy: &Copy) -> anyhow::Result<()> {
    let container = copy.container.as_deref();
    match (end(&copy.from), end(&copy.to)) {
        (End::Here(from), End::There { pod, path }) => {
            let metadata =
                tokio::fs::metadata(from).await.with_context(|| format!("reading {}", from.display()))?;
            if metadata.is_dir() {
                bail!(
                    "{} is a directory: `cleat ctl cp` copies single files, kubectl whole trees",
                    from.display()
                );
            }
            let file =
                tokio::fs::File::open(from).await.with_context(|| format!("reading {}", from.display()))?;
            let command = ["sh", "-c", "cat > \"$0\"", path];
            piped(cluster, pod, container, &command, Some(Box::new(file)), Box::new(tokio::io::sink())).await
        }
        (End::There { pod, path }, End::Here(to)) => {
            // What is written is complete or not there.
            let part = to.with_extension("part");
            let file = tokio::fs::File::create(&part)
                .await
                .with_context(|| format!("writing {}", part.display()))?;
            let copied = piped(cluster, pod, container, &["cat", path], None, Box::new(file)).await;
            match copied {
                Ok(()) => {
                    tokio::fs::rename(&part, to).await.with_context(|| format!("writing {}", to.display()))
                }
                Err(error) => {
                    let _ = tokio::fs::remove_file(&part).await;
                    Err(error)
                }
            }
        }
        _ => bail!("one end is here and one in a pod, as in `cleat ctl cp FILE POD:PATH`"),
    }
}

async fn piped(
    cluster: &Cluster,
    pod: &str,
    container: Option<&str>,
    command: &[&str],
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
) -> anyhow::Result<()> {
    let wanted = Wanted { container, stdin: input.is_some(), tty: false };
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    let far = far(cluster, pod, &format!("exec{}", wanted.query(&command))).await?;
    let stderr = Some(Box::new(tokio::io::stderr()) as _);
    let streams = Stdio { stdin: input, stdout: Some(output), stderr, resize: None };
    match stream::client::run(far, streams).await.map_err(told)? {
        0 => Ok(()),
        code => bail!("the copy ended with exit code {code} in the container"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_query() {
        let wanted = Wanted { container: None, stdin: true, tty: false };
        let command = ["sh", "", "a&b=c"].map(str::to_owned);
        assert_eq!(
            wanted.query(&command),
            "?stdin=true&stdout=true&stderr=true&command=sh&command=&command=a%26b%3Dc"
        );
    }

    #[test]
    fn ports_and_ends_are_read() {
        assert_eq!(port("80").unwrap(), (80, 80));
        assert_eq!(port("8080:80").unwrap(), (8080, 80));
        assert_eq!(port(":80").unwrap(), (0, 80));
        for bad in ["", "x", "1:0", "99999", "a:1"] {
            assert!(port(bad).is_err(), "{bad}");
        }
        assert!(matches!(end("web:/tmp/x"), End::There { pod: "web", path: "/tmp/x" }));
        assert!(matches!(end("pod/web:x"), End::There { pod: "pod/web", path: "x" }));
        assert!(matches!(end("./a:b"), End::Here(_)));
        assert!(matches!(end("/a/b:c"), End::Here(_)));
    }
}
