//! A real etcd of Debian's etcd-server in a directory of its own, and a line to it that can be cut.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use store::{Config, Etcd, Place, Store, Tls};
use tempfile::TempDir;
use tokio::{io::copy_bidirectional, net::TcpStream, sync::watch, task::JoinHandle};

/// A running member, killed when this goes out of scope.
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    /// How it is started.
    arguments: Vec<String>,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl Server {
    pub(crate) async fn start(more: &[&str]) -> Server {
        Server::cluster(1, more).await.pop().expect("one")
    }

    /// Members that know each other.
    pub(crate) async fn cluster(count: usize, more: &[&str]) -> Vec<Server> {
        for _ in 0..10 {
            let mut members = Server::members(count, more);
            let mut all_ready = true;
            for member in &mut members {
                all_ready &= member.ready().await;
            }
            if all_ready {
                return members;
            }
            // Somebody else has taken one of the ports meanwhile.
        }
        panic!("etcd does not start");
    }

    fn members(count: usize, more: &[&str]) -> Vec<Server> {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let peer = |(_, port): &(u16, u16)| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            ports.iter().map(|ports| format!("m{}={}", ports.1, peer(ports))).collect();
        let scheme = if more.iter().any(|word| word.starts_with("--cert-file")) { "https" } else { "http" };
        let member = |ports: &(u16, u16)| {
            let folder = tempfile::tempdir().expect("a directory");
            let (client, peer) = (format!("{scheme}://127.0.0.1:{}", ports.0), peer(ports));
            let mut arguments = vec![format!("--name=m{}", ports.1), "--log-level=error".to_owned()];
            arguments.push(format!("--data-dir={}", folder.path().join("data").display()));
            arguments.extend(["listen", "advertise"].map(|what| format!("--{what}-client-urls={client}")));
            arguments.extend(
                ["listen-peer", "initial-advertise-peer"].map(|what| format!("--{what}-urls={peer}")),
            );
            arguments.push(format!("--initial-cluster={}", cluster.join(",")));
            arguments.extend(more.iter().map(|&word| word.to_owned()));
            Server { child: spawn(&arguments), folder, port: ports.0, arguments }
        };
        ports.iter().map(member).collect()
    }

    async fn ready(&mut self) -> bool {
        loop {
            if self.child.try_wait().expect("our child").is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Starts a killed member again, on the same ports and data.
    pub(crate) async fn again(&mut self) {
        self.child = spawn(&self.arguments);
        assert!(self.ready().await, "etcd must start again");
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn store(&self) -> Store {
        open(vec![self.endpoint()], None).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a store; etcd may still be electing itself.
pub(crate) async fn open(endpoints: Vec<String>, tls: Option<Tls>) -> Store {
    let config = Config::new(Place::Etcd(Etcd { endpoints, tls }));
    let mut last = None;
    for _ in 0..100 {
        match Store::open(config.clone()).await {
            Ok(store) => return store,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("etcd never answered: {last:?}");
}

/// Starts a member that dies with the test.
fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "etcd"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("setpriv runs etcd")
}

/// A line to a port on this machine that can be cut and mended.
pub(crate) struct Line {
    pub(crate) port: u16,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Line {
    pub(crate) async fn to(port: u16) -> Line {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let local = listener.local_addr().expect("bound").port();
        let (open, watched) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut watched = watched.clone();
                if !*watched.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = watched.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Line { port: local, open, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}
