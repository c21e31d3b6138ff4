//! The agent on a fake CRI server, in virtual time: real files, a real socket, no containers.

mod fake;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::fake::Fake;
use crate::clock::Clock;
use crate::config::Config;
use crate::cri::Cri;

/// An agent with its fake.
struct Lab {
    dir: tempfile::TempDir,
    fake: Fake,
    clock: Clock,
    running: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Lab {
    async fn new() -> Self {
        let is = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Clock::Tokio { at: tokio::time::Instant::now(), is };
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("manifests")).unwrap();
        let mut lab = Self { dir, fake: Fake::new(clock), clock, running: None };
        lab.start().await;
        lab
    }

    fn config(&self) -> Config {
        let mut config = Config::new(&self.dir.path().join("data"), &self.dir.path().join("run"));
        config.manifests = Some(self.dir.path().join("manifests"));
        config.node_name = "n".into();
        config.node_ips = vec!["192.0.2.1".parse().unwrap()];
        config
    }

    async fn start(&mut self) {
        let shutdown = CancellationToken::new();
        let (config, cri) = (self.config(), Cri::over(self.fake.channel().await));
        let (clock, token) = (self.clock, shutdown.clone());
        let task = tokio::spawn(async move { crate::serve(config, cri, clock, None, token).await.unwrap() });
        self.running = Some((task, shutdown));
    }

    /// Ends the agent as `kill -9` would: nothing more is written.
    async fn kill(&mut self) {
        let (task, _) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Moves a manifest into the directory, as a careful editor does.
    fn apply(&self, file: &str, manifest: &str) {
        let whole = self.dir.path().join(file);
        fs::write(&whole, manifest).unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&whole).unwrap().set_modified(old).unwrap();
        fs::rename(whole, self.manifest(file)).unwrap();
    }

    fn manifest(&self, file: &str) -> PathBuf {
        self.dir.path().join("manifests").join(file)
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.manifest(file)).unwrap();
    }

    async fn get(&self, path: &str) -> Option<String> {
        let stream = tokio::net::UnixStream::connect(self.config().socket()).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
        tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "agent").body(Empty::<Bytes>::new()).unwrap();
        let body = sender.send_request(request).await.ok()?.into_body().collect().await.ok()?;
        Some(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }

    async fn pods(&self) -> Vec<Value> {
        let text = self.get("/pods").await.unwrap_or_default();
        let list: Value = serde_json::from_str(&text).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until a pod is as wanted.
    async fn pod(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..2000 {
            for pod in self.pods().await {
                if pod["metadata"]["name"] == name {
                    if wanted(&pod) {
                        return pod;
                    }
                    last = pod;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("pod {name} never got there: {last:#}\n{:#?}", self.fake.inside().calls);
    }

    async fn gone(&self) {
        for _ in 0..2000 {
            if self.pods().await.is_empty() && self.get("/healthz").await.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("pods are left: {:#?}", self.pods().await);
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.inside().calls)
    }

    /// Nothing is left of any pod.
    fn clean(&self) {
        let inside = self.fake.inside();
        assert!(inside.sandboxes.is_empty() && inside.containers.is_empty(), "{inside:?}");
        let left: Vec<_> =
            fs::read_dir(self.config().pods_dir()).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn manifest(name: &str, more: Value) -> String {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    if let Some(more) = more.as_object() {
        for (key, value) in more {
            match key.as_str() {
                "container" => {
                    for (key, value) in value.as_object().unwrap() {
                        pod["spec"]["containers"][0][key] = value.clone();
                    }
                }
                key => pod["spec"][key] = value.clone(),
            }
        }
    }
    pod.to_string()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_and_goes() {
    let lab = Lab::new().await;
    lab.apply("web.yaml", &manifest("web", json!({"volumes": [{"name": "v", "emptyDir": {}}]})));
    let pod = lab.pod("web-n", ready).await;
    assert_eq!(pod["status"]["podIP"], "10.0.0.7");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.1");
    assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["containerID"].as_str().unwrap().starts_with("fake://c"), "{status}");
    let mut calls = lab.calls();
    calls[..2].sort();
    assert_eq!(
        calls,
        ["pull i:1", "sandbox web-n 0", "create c 0", "start c"],
        "the pull and the sandbox go together"
    );
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(lab.config().pods_dir().join(&uid).join("volumes/kubernetes.io~empty-dir/v").is_dir());
    lab.remove("web.yaml");
    lab.gone().await;
    let calls = lab.calls();
    assert_eq!(calls[0], "stop c 30");
    assert!(calls[1].starts_with("stop-sandbox") && calls[2].starts_with("remove c"), "{calls:?}");
    lab.clean();
    let events = lab.get("/api/v1/events").await.unwrap();
    for reason in ["Pulling", "Pulled", "Created", "Started", "Killing"] {
        assert!(events.contains(&format!("\"reason\":\"{reason}\"")), "{reason}: {events}");
    }
}

#[tokio::test(start_paused = true)]
async fn crashes_back_off() {
    let lab = Lab::new().await;
    lab.apply("web.yaml", &manifest("web", Value::Null));
    lab.pod("web-n", ready).await;
    let count =
        |n: u64| move |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == n && ready(pod);
    lab.fake.exit("c", 1);
    lab.pod("web-n", count(1)).await;
    lab.fake.exit("c", 1);
    let before = lab.clock.now();
    let waits = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    let pod = lab.pod("web-n", waits).await;
    assert!(
        pod["metadata"]["annotations"]["cleat.dev/waiting-for"].as_str().unwrap().contains("back-off 10s")
    );
    lab.pod("web-n", count(2)).await;
    assert!(lab.clock.now().duration_since(before).as_secs() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_pods_as_they_are() {
    let mut lab = Lab::new().await;
    let probe = json!({"exec": {"command": ["ok"]}, "periodSeconds": 1});
    lab.apply("web.yaml", &manifest("web", json!({"container": {"readinessProbe": probe}})));
    let before = lab.pod("web-n", ready).await;
    lab.kill().await;
    lab.fake.inside().exec.insert("ok".into(), 1);
    lab.calls();
    lab.start().await;
    let after = lab.pod("web-n", |_| true).await;
    assert!(ready(&after), "readiness is remembered");
    for path in [
        "/metadata/uid",
        "/status/startTime",
        "/status/conditions",
        "/status/containerStatuses/0/containerID",
    ] {
        assert_eq!(before.pointer(path), after.pointer(path), "{path}");
    }
    lab.pod("web-n", |pod| !ready(pod)).await;
    let calls = lab.calls();
    assert!(calls.iter().all(|call| call.starts_with("exec")), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_vanished_meanwhile_still_gets_its_hook_and_its_grace() {
    let mut lab = Lab::new().await;
    let hook = json!({"preStop": {"exec": {"command": ["save"]}}});
    let more = json!({"terminationGracePeriodSeconds": 7, "container": {"lifecycle": hook}});
    lab.apply("web.yaml", &manifest("web", more));
    lab.pod("web-n", ready).await;
    lab.kill().await;
    lab.remove("web.yaml");
    lab.calls();
    lab.start().await;
    lab.gone().await;
    let calls = lab.calls();
    assert_eq!(calls[..2], ["exec save", "stop c 7"], "{calls:?}");
    lab.clean();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_ended() {
    let mut lab = Lab::new().await;
    lab.apply("web.yaml", &manifest("web", Value::Null));
    lab.pod("web-n", ready).await;
    lab.kill().await;
    // The checkpoint is lost, and so is the manifest: only the runtime knows the pod.
    fs::remove_dir_all(lab.config().pods_dir()).unwrap();
    lab.remove("web.yaml");
    lab.start().await;
    for _ in 0..2000 {
        if lab.fake.inside().sandboxes.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lab.gone().await;
    lab.clean();
}

#[tokio::test(start_paused = true)]
async fn an_edit_ends_the_old_pod_first() {
    let lab = Lab::new().await;
    lab.apply("web.yaml", &manifest("web", Value::Null));
    let old = lab.pod("web-n", ready).await;
    lab.calls();
    lab.apply("web.yaml", &manifest("web", json!({"hostname": "other"})));
    lab.pod("web-n", |pod| ready(pod) && pod["metadata"]["uid"] != old["metadata"]["uid"]).await;
    let calls = lab.calls();
    let at = |word: &str| calls.iter().position(|c| c.starts_with(word)).unwrap();
    assert!(at("remove-sandbox") < at("sandbox web-n 0"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_document_disturbs_nobody() {
    let lab = Lab::new().await;
    lab.apply(
        "web.yaml",
        &format!("{}\n---\n{}", manifest("web", Value::Null), manifest("bad", json!({"hostNetwrk": true}))),
    );
    lab.pod("web-n", ready).await;
    let bad = lab.pod("bad", |_| true).await;
    assert_eq!(
        (bad["status"]["phase"].as_str(), bad["status"]["reason"].as_str()),
        (Some("Failed"), Some("InvalidManifest"))
    );
    let message = bad["status"]["message"].as_str().unwrap();
    assert!(message.contains("web.yaml, document 2: unknown field \"spec.hostNetwrk\""), "{message}");
    // A file that cannot be read as a whole keeps its pods.
    lab.calls();
    lab.apply("web.yaml", "apiVersion: v1\nkind: [");
    lab.pod("web", |pod| pod["status"]["reason"] == "InvalidManifest").await;
    lab.pod("web-n", ready).await;
    lab.apply("web.yaml", &manifest("web", Value::Null));
    lab.pod("web-n", ready).await;
    let calls = lab.calls();
    assert!(calls.iter().all(|c| !c.starts_with("sandbox")), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_runtime_are_told_and_overcome() {
    let lab = Lab::new().await;
    let faults = ["pull", "sandbox", "create", "start"].map(|word| (word.to_owned(), 1));
    lab.fake.inside().faults.extend(faults);
    lab.apply("web.yaml", &manifest("web", Value::Null));
    let sandbox = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["reason"] == "FailedCreatePodSandBox")
    };
    lab.pod("web-n", sandbox).await;
    let reason = |wanted: &'static str| {
        move |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == wanted
    };
    lab.pod("web-n", reason("ErrImagePull")).await;
    lab.pod("web-n", reason("CreateContainerError")).await;
    lab.pod("web-n", reason("RunContainerError")).await;
    lab.pod("web-n", ready).await;
    lab.fake
        .inside()
        .faults
        .extend(["stop", "stop-sandbox", "remove", "remove-sandbox"].map(|w| (w.to_owned(), 1)));
    lab.remove("web.yaml");
    lab.gone().await;
    lab.clean();
}

#[tokio::test(start_paused = true)]
async fn large_logs_are_rotated_and_few_are_kept() {
    let mut lab = Lab::new().await;
    lab.apply("web.yaml", &manifest("web", Value::Null));
    lab.pod("web-n", ready).await;
    let log = PathBuf::from(&lab.fake.inside().containers["c2"].status.log_path);
    let older = || fs::read_dir(log.parent().unwrap()).unwrap().count() - 1;
    let large = lab.config().log_bytes_max + 1;
    for round in 0..7_usize {
        fs::File::create(&log).unwrap().set_len(large).unwrap();
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!((fs::metadata(&log).unwrap().len(), older()), (0, (round + 1).min(4)));
    }
    // Killed between the renaming and the reopening: the next agent has it opened again.
    lab.kill().await;
    fs::rename(&log, log.with_extension("log.99999999-000000.0")).unwrap();
    lab.start().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(log.exists());
    lab.remove("web.yaml");
    lab.gone().await;
    assert!(!log.parent().unwrap().exists(), "logs go with their pod");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_keeps_its_status() {
    let mut lab = Lab::new().await;
    lab.apply("job.yaml", &manifest("job", json!({"restartPolicy": "Never"})));
    lab.pod("job-n", ready).await;
    lab.fake.exit("c", 3);
    let failed = |pod: &Value| pod["status"]["phase"] == "Failed";
    lab.pod("job-n", failed).await;
    lab.kill().await;
    lab.start().await;
    let pod = lab.pod("job-n", failed).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    lab.remove("job.yaml");
    lab.gone().await;
    lab.clean();
}
