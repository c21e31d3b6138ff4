//! Into containers and out again, through the API server and a node's agent, by upstream's kubectl.

mod logs;
mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use lab::{Cluster, pypi, wait};

/// Two containers that talk, and one that ends at once and is started again.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: box, labels: { app: box } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.35
    stdin: true
    tty: true
    command: [sh, -c, 'trap "exit 0" TERM; echo ready; while read line; do echo "heard $line"; done']
  - name: web
    image: busybox:1.35
    ports: [{ name: http, containerPort: 8080 }]
    command: [sh, -c, 'mkdir -p /www/a; echo "<a href=/next>next</a>" > /www/index.html; echo deep > /www/a/b; httpd -f -p 8080 -h /www & httpd -p 8081 -h /www; echo serving; echo wrong >&2; trap "exit 0" TERM; while :; do sleep 1 & wait $!; done']
---
apiVersion: v1
kind: Pod
metadata: { name: again }
spec:
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, 'echo "life $(cat /proc/sys/kernel/random/uuid)"; sleep 1; exit 3']
---
apiVersion: v1
kind: Service
metadata: { name: box }
spec:
  selector: { app: box }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
"#;

/// The busy part of the tests shares one cluster: it takes its time to make.
struct Lab(Cluster);

impl Lab {
    fn new() -> Result<Self> {
        let cluster = Cluster::new(1)?;
        cluster.apply(PODS)?;
        let ready = cluster.kubectl(&["wait", "--for=condition=Ready", "pod/box", "--timeout=120s"]);
        ready.with_context(|| cluster.kubectl(&["describe", "pod", "box"]).unwrap_or_default())?;
        Ok(Self(cluster))
    }

    /// kubectl with words that are separated by spaces.
    fn run(&self, line: &str) -> Result<String> {
        self.0.kubectl(&line.split(' ').collect::<Vec<_>>())
    }

    /// What kubectl says of its failure.
    fn refused(&self, line: &str) -> Result<String> {
        let done = self.0.kubectl_output(&line.split(' ').collect::<Vec<_>>(), "")?;
        ensure!(!done.status.success(), "{line} was not refused");
        Ok(String::from_utf8_lossy(&done.stderr).into_owned())
    }

    fn start(&self, line: &str) -> Result<Child> {
        let mut command = self.0.client(pypi::kubectl()?);
        command.args(line.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }
}

#[test]
fn exec_attach_and_their_ends() -> Result<()> {
    let lab = Lab::new()?;
    exec(&lab)?;
    attach(&lab)?;
    large_files(&lab)?;
    by_cleat(&lab)?;
    gone_clients(&lab)
}

/// Files and ports by our own client.
fn by_cleat(lab: &Lab) -> Result<()> {
    let node = lab.0.node(0);
    let folder = node.machine().folder();
    let (there, back) = (folder.join("note"), folder.join("note.back"));
    fs::write(&there, "from here\n")?;
    node.cleat(&["ctl", "cp", "-c", "web", &there.to_string_lossy(), "box:/tmp/note"])?;
    ensure!(node.cleat(&["ctl", "exec", "box", "-c", "web", "--", "cat", "/tmp/note"])? == "from here\n");
    node.cleat(&["ctl", "cp", "-c", "web", "box:/tmp/note", &back.to_string_lossy()])?;
    ensure!(fs::read(&back)? == fs::read(&there)?, "the file came back changed");
    let mut forward = node.cleat_command(&["ctl", "port-forward", "box", ":8080"]);
    let mut forward = forward.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    // It goes on telling, and ends when nobody is there to be told.
    let mut told = BufReader::new(forward.stdout.take().context("piped")?);
    told.read_line(&mut line)?;
    let address = line.split(' ').nth(2).with_context(|| line.clone())?;
    let page = node.machine().run(&["curl", "-sS", "--max-time", "20", &format!("http://{address}/a/b")]);
    forward.kill()?;
    forward.wait()?;
    ensure!(page? == "deep\n");
    Ok(())
}

fn exec(lab: &Lab) -> Result<()> {
    ensure!(lab.run("exec box -c web -- echo hello")? == "hello\n");
    for code in [1, 7, 255] {
        let done = lab
            .0
            .kubectl_output(&["exec", "box", "-c", "web", "--", "sh", "-c", &format!("exit {code}")], "")?;
        ensure!(done.status.code() == Some(code), "{done:?}");
    }
    let both = lab
        .0
        .kubectl_output(&["exec", "box", "-c", "web", "--", "sh", "-c", "echo out; echo err >&2"], "")?;
    ensure!(
        (both.stdout.as_slice(), both.stderr.as_slice()) == (b"out\n".as_slice(), b"err\n".as_slice()),
        "{both:?}"
    );
    // An empty word and one of characters that a query must escape.
    let words = lab.0.kubectl(&[
        "exec",
        "box",
        "-c",
        "web",
        "--",
        "sh",
        "-c",
        "echo $#:$2",
        "x",
        "",
        "a&b=c d%2F",
    ])?;
    ensure!(words == "2:a&b=c d%2F\n", "{words}");
    let missing = lab.refused("exec box -c none -- true")?;
    ensure!(missing.contains("container none is not valid for pod box"), "{missing}");
    let missing = lab.refused("exec nobody -- true")?;
    ensure!(missing.contains("pods \"nobody\" not found"), "{missing}");
    let missing = lab.refused("exec box -c web -- /nothing")?;
    ensure!(missing.contains("nothing"), "{missing}");
    // The older protocol of kubectl.
    let mut spdy = lab.0.client(pypi::kubectl()?);
    spdy.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
        .args(["exec", "box", "-c", "web", "--", "echo", "old"]);
    let done = spdy.output()?;
    ensure!(done.stdout == b"old\n", "{done:?}");
    Ok(())
}

fn attach(lab: &Lab) -> Result<()> {
    let mut attached = lab.start("attach -i box -c main")?;
    let mut lines = BufReader::new(attached.stdout.take().context("piped")?).lines();
    let mut stdin = attached.stdin.take().context("piped")?;
    writeln!(stdin, "one")?;
    let heard: Vec<String> = std::iter::from_fn(|| lines.next()).take(2).collect::<std::io::Result<_>>()?;
    ensure!(heard.iter().any(|line| line.contains("heard one")), "{heard:?}");
    drop(stdin);
    attached.kill()?;
    attached.wait()?;
    Ok(())
}

/// Larger than all that is buffered on the way, in both directions.
fn large_files(lab: &Lab) -> Result<()> {
    let folder = lab.0.node(0).machine().folder();
    let (there, back) = (folder.join("there"), folder.join("back"));
    let bytes: Vec<u8> =
        (0..100_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(&there, &bytes)?;
    lab.0.kubectl(&["cp", "-c", "web", &there.to_string_lossy(), "box:/tmp/there"])?;
    lab.0.kubectl(&["cp", "-c", "web", "box:/tmp/there", &back.to_string_lossy()])?;
    ensure!(fs::read(&back)? == bytes, "the file came back changed");
    lab.run("exec box -c web -- rm /tmp/there").map(drop)
}

/// A session whose client is killed takes its command along, and so does one whose client does not read.
fn gone_clients(lab: &Lab) -> Result<()> {
    let running = |what: &str| -> Result<bool> {
        Ok(lab.run("exec box -c web -- ps -o args")?.lines().any(|line| line == what))
    };
    for what in ["cat /dev/zero", "yes back-pressure"] {
        // Killed inside of its machine: what enters that is not kubectl itself.
        let mut client = lab.0.client("timeout".into());
        client
            .args(["-s", "KILL", "10"])
            .arg(pypi::kubectl()?)
            .args(["exec", "-i", "box", "-c", "web", "--"]);
        client.args(what.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = client.spawn()?;
        wait::until("the command to run", 10, || {
            Ok(if running(what)? { Ok(()) } else { Err(what.to_owned()) })
        })?;
        client.wait()?;
        wait::until("the command to end with its client", 20, || {
            Ok(if running(what)? { Err(what.to_owned()) } else { Ok(()) })
        })?;
    }
    Ok(())
}

#[test]
fn logs_ports_and_proxies() -> Result<()> {
    let lab = Lab::new()?;
    logs(&lab)?;
    ports(&lab)?;
    proxies(&lab)?;
    kubelet(&lab)
}

fn logs(lab: &Lab) -> Result<()> {
    ensure!(
        lab.run("logs box -c web")? == "serving\nwrong\n"
            || lab.run("logs box -c web")? == "wrong\nserving\n"
    );
    ensure!(lab.run("logs box -c web --tail=1")?.lines().count() == 1);
    ensure!(lab.run("logs box -c web --since=1h")?.lines().count() == 2);
    ensure!(lab.run("logs box -c web --limit-bytes=3")?.len() == 3);
    let stamped = lab.run("logs box -c web --timestamps")?;
    ensure!(stamped.lines().all(|line| line.contains('T') && line.contains("Z ")), "{stamped}");
    let only = lab.run("get --raw /api/v1/namespaces/default/pods/box/log?container=web&stream=Stderr")?;
    ensure!(only == "wrong\n", "{only}");
    let all = lab.run("logs box --all-containers --prefix")?;
    ensure!(all.contains("[pod/box/web] serving") && all.contains("[pod/box/main] ready"), "{all}");
    let none = lab.refused("get --raw /api/v1/namespaces/default/pods/box/log")?;
    ensure!(
        none.contains("a container name must be specified for pod box, choose one of: [main web]"),
        "{none}"
    );
    let bad = lab.refused("logs box -c web --since-time=2026-01-01T00:00:00Z --since=1s")?;
    ensure!(bad.contains("at most one of"), "{bad}");
    // The life before this one.
    let previous = wait::until("a restart", 60, || match lab.run("logs again --previous") {
        Ok(text) => Ok(Ok(text)),
        Err(error) => Ok(Err(format!("{error:#}"))),
    })?;
    ensure!(previous.starts_with("life "), "{previous}");
    let bad = lab.refused("logs box -c web --previous")?;
    ensure!(bad.contains("previous terminated container \"web\" in pod \"box\" not found"), "{bad}");
    followed(lab)
}

/// A log that is followed while it is written, through what the container writes at once.
fn followed(lab: &Lab) -> Result<()> {
    let mut follow = lab.start("logs -f --since=1s box -c web")?;
    let mut text = BufReader::new(follow.stdout.take().context("piped")?);
    for number in 0..3 {
        lab.0.kubectl(&[
            "exec",
            "box",
            "-c",
            "web",
            "--",
            "sh",
            "-c",
            &format!("echo mark {number} > /proc/1/fd/1"),
        ])?;
        let mut line = String::new();
        while line.trim() != format!("mark {number}") {
            line.clear();
            ensure!(text.read_line(&mut line)? > 0, "the log ended");
        }
    }
    follow.kill()?;
    follow.wait()?;
    Ok(())
}

fn ports(lab: &Lab) -> Result<()> {
    let mut forward = lab.start("port-forward pod/box :8080 :8081 :9")?;
    let mut lines = BufReader::new(forward.stdout.take().context("piped")?).lines();
    let mut found = Vec::new();
    while found.len() < 3 {
        let line = lines.next().context("kubectl ended")??;
        if let Some(rest) = line.strip_prefix("Forwarding from 127.0.0.1:") {
            found.push(rest.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    let get = |port: &str, path: &str| {
        lab.0.node(0).machine().run(&[
            "curl",
            "-sS",
            "--max-time",
            "20",
            &format!("http://127.0.0.1:{port}{path}"),
        ])
    };
    for number in 0..10 {
        let both = get(&found[0], "/a/b").and_then(|one| Ok((one, get(&found[1], "/a/b")?)));
        if both.as_ref().ok() != Some(&("deep\n".to_owned(), "deep\n".to_owned())) {
            forward.kill()?;
            let said = forward.wait_with_output()?;
            anyhow::bail!("connection {number}: {both:?}: {}", String::from_utf8_lossy(&said.stderr));
        }
    }
    // Many at once; kubectl itself ends with the first that is refused.
    let many = (0..20).map(|_| format!("http://127.0.0.1:{}/a/b", found[0])).collect::<Vec<_>>();
    let mut words = vec!["curl", "-sS", "--max-time", "30", "--parallel"];
    words.extend(many.iter().map(String::as_str));
    ensure!(lab.0.node(0).machine().run(&words)? == "deep\n".repeat(20));
    ensure!(get(&found[2], "/").is_err());
    let said = forward.wait_with_output()?;
    let said = String::from_utf8_lossy(&said.stderr);
    ensure!(said.contains("error forwarding port 9 to pod") && said.contains("refused"), "{said}");
    Ok(())
}

fn proxies(lab: &Lab) -> Result<()> {
    let base = "/api/v1/namespaces/default";
    let raw = |path: &str| lab.0.kubectl(&["get", "--raw", &format!("{base}{path}")]);
    ensure!(raw("/pods/box:8080/proxy/a/b")? == "deep\n");
    ensure!(raw("/pods/box/proxy/a/b")? == "deep\n");
    let page = raw("/pods/box/proxy/")?;
    ensure!(
        page == format!("<a href=\"{base}/pods/box/proxy/next\">next</a>\n")
            || page.contains("/pods/box/proxy/next"),
        "{page}"
    );
    let through = wait::until("the service to have endpoints", 30, || {
        Ok(raw("/services/box:http/proxy/a/b").map_err(|error| format!("{error:#}")))
    })?;
    ensure!(through == "deep\n" && raw("/services/http:box:80/proxy/a/b")? == "deep\n");
    let none = lab.refused("get --raw /api/v1/namespaces/default/services/box:81/proxy/")?;
    ensure!(none.contains("no service port 81 found for service \"box\""), "{none}");
    let none = lab.refused("get --raw /api/v1/namespaces/default/pods/box:9/proxy/")?;
    ensure!(none.contains("error trying to reach service") && none.contains("refused"), "{none}");
    Ok(())
}

/// What the node's agent tells through the API server, and whom it tells nothing.
fn kubelet(lab: &Lab) -> Result<()> {
    let node = lab.0.name(0)?;
    let raw = |path: &str| lab.0.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy{path}")]);
    ensure!(raw("/healthz")? == "ok");
    let pods: serde_json::Value = serde_json::from_str(&raw("/pods")?)?;
    ensure!(
        pods["items"].as_array().is_some_and(|items| items.iter().any(|p| p["metadata"]["name"] == "box"))
    );
    let summary: serde_json::Value = serde_json::from_str(&raw("/stats/summary")?)?;
    ensure!(summary["node"]["memory"]["workingSetBytes"].as_u64().is_some_and(|n| n > 0), "{summary}");
    let own = summary["pods"].as_array().and_then(|all| all.iter().find(|p| p["podRef"]["name"] == "box"));
    let own = own.context("the summary has no such pod")?;
    ensure!(own["containers"].as_array().is_some_and(|c| c.len() == 2), "{own}");
    ensure!(own["network"]["rxBytes"].as_u64().is_some_and(|n| n > 0), "{own}");
    let metrics = raw("/metrics/resource")?;
    ensure!(
        metrics.contains(
            "container_memory_working_set_bytes{container=\"web\",namespace=\"default\",pod=\"box\"}"
        ),
        "{metrics}"
    );
    ensure!(metrics.contains("resource_scrape_error 0"), "{metrics}");
    ensure!(raw("/metrics/cadvisor")?.contains("container_network_receive_bytes_total"));
    let signed = lab.0.node(0).data().join("node/serving.pem");
    wait::until_true("the kubelet's certificate to be signed", 90, || signed.exists())?;
    let machine = lab.0.node(0).machine();
    let code = |words: &[&str]| {
        let url = format!("https://{}:10250/pods", lab.0.address(0));
        let mut all = vec!["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"];
        all.extend(words);
        all.push(&url);
        machine.run(&all)
    };
    ensure!(code(&[])? == "401");
    ensure!(code(&["-H", "Authorization: Bearer nonsense"])? == "401");
    let token = lab.run("create token default")?;
    ensure!(code(&["-H", &format!("Authorization: Bearer {}", token.trim())])? == "403");
    lab.run("create clusterrole reader --verb=get --resource=nodes/pods")?;
    lab.run("create clusterrolebinding reader --clusterrole=reader --serviceaccount=other:other")?;
    lab.run("create namespace other")?;
    lab.run("create serviceaccount other -n other")?;
    let token = lab.run("create token other -n other")?;
    ensure!(code(&["-H", &format!("Authorization: Bearer {}", token.trim())])? == "200");
    Ok(())
}
