//! A node whose CRI server is Debian's containerd, in a cluster of ours. Against upstream's API server the same was run
//! by hand (docs/agent.md): that one is in no package.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use lab::debian::Debian;
use lab::{Cluster, demo, node, peer, wait};
use serde_json::{Value, json};

use crate::{apply, becomes, idle, map, merge, ready, sh};

/// A node joins that runs its pods by containerd, runc and the CNI project's plugins.
fn join(cluster: &mut Cluster) -> Result<lab::Process> {
    let folder = cluster.node(1).machine().folder().to_path_buf();
    // The network is ours: containerd reads it where our CRI server would.
    let networks = cluster.node(1).data().join("cni/net.d");
    fs::create_dir_all(&networks)?;
    symlink(&networks, folder.join("net.d"))?;
    let pause = cluster.node(1).push("pause", &demo::pause(&Debian::open()?)?);
    let log = fs::File::create(folder.join("containerd.log"))?;
    let mut command = peer::containerd(cluster.node(1).machine(), &pause)?;
    command.stdout(log.try_clone()?).stderr(log);
    let containerd = cluster.node(1).machine().spawn(command)?;
    let socket = peer::socket(&folder);
    wait::until_true("containerd's socket", 90, || socket.exists())?;
    cluster.configure(&format!("containerRuntimeEndpoint: unix://{}\n", socket.display()));
    cluster.start_node(1)?;
    cluster.wait_ready()?;
    Ok(containerd)
}

#[test]
fn our_node_on_containerd() -> Result<()> {
    let mut cluster = Cluster::prepared(2, &[])?;
    cluster.start_node(0)?;
    let _containerd = join(&mut cluster)?;
    let name = cluster.name(1)?;
    let place = json!({"nodeSelector": {"kubernetes.io/hostname": name}});
    let told = cluster.get(&["node", &name])?["status"]["nodeInfo"]["containerRuntimeVersion"].to_string();
    ensure!(told.contains("containerd://"), "{told}");
    deployment(&cluster, &place)?;
    failures(&cluster, &place)?;
    survives(&mut cluster, &place)?;
    cluster.kubectl(&["delete", "deploy/web", "pod/failing", "pod/nothing", "--timeout=90s"])?;
    cluster.kubectl(&["wait", "--for=delete", "pod", "-l", "app=web", "--timeout=90s"])?;
    let ended = cluster.node(1).cleat(&["down", "--timeout", "0"])?;
    ensure!(ended.contains("0 pods ended"), "{ended}");
    Ok(())
}

/// A deployment with all that pods are given, reached from the other node, looked into by kubectl.
fn deployment(cluster: &Cluster, place: &Value) -> Result<()> {
    let script = "mkdir /w; cat /map/k > /w/z; httpd -p 8080 -h /w; trap 'exit 0' TERM; echo serving; while :; do sleep 1 & wait $!; done";
    let probe = json!({"httpGet": {"path": "/z", "port": "http"}, "periodSeconds": 1});
    let container = json!({"command": ["sh", "-c", script], "readinessProbe": probe, "livenessProbe": probe,
        "startupProbe": {"exec": {"command": ["cat", "/w/z"]}, "periodSeconds": 1},
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "32Mi"}},
        "lifecycle": {"postStart": {"exec": {"command": ["touch", "/tmp/post"]}}},
        "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}}],
        "volumeMounts": [{"name": "map", "mountPath": "/map"}]});
    let init = json!([{"name": "first", "image": "busybox:1.35", "command": ["sh", "-c", "echo prepared"]}]);
    let mut spec =
        json!({"initContainers": init, "volumes": [{"name": "map", "configMap": {"name": "map"}}]});
    merge(&mut spec, place.clone());
    let pod = idle("web", spec, container);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": pod["metadata"], "spec": pod["spec"]}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    apply(cluster, &[map("map", json!({"k": "one"})), deployment, service])?;
    let rolled = cluster.kubectl(&["rollout", "status", "deploy/web", "--timeout=120s"]);
    rolled.with_context(|| cluster.kubectl(&["get", "events"]).unwrap_or_default())?;
    let list = cluster.get(&["pods", "-l", "app=web"])?;
    let pod = &list["items"][0];
    let id = node::container(pod, "main")["containerID"].to_string();
    ensure!(id.contains("containerd://"), "{id}");
    let name = pod["metadata"]["name"].as_str().context("no name")?;
    ensure!(cluster.kubectl(&["logs", name, "-c", "main"])? == "serving\n");
    ensure!(cluster.kubectl(&["logs", name, "-c", "first"])? == "prepared\n");
    ensure!(sh(cluster, name, "echo $K; ls /tmp/post; cat /map/k")? == "one\n/tmp/post\none");
    let code = cluster.kubectl_output(&["exec", name, "-c", "main", "--", "sh", "-c", "exit 7"], "")?;
    ensure!(code.status.code() == Some(7), "{code:?}");
    apply(cluster, &[map("map", json!({"k": "two"}))])?;
    becomes(cluster, name, "cat /map/k", "two")?;
    let address =
        cluster.get(&["service", "web"])?["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let url = format!("http://{address}/z");
    wait::until("the service to answer on the other node", 90, || {
        let answer = cluster.node(0).machine().run(&["curl", "-sS", "--max-time", "5", &url]);
        Ok(answer
            .and_then(|text| {
                ensure!(text == "one", "{text}");
                Ok(())
            })
            .map_err(|error| format!("{error:#}")))
    })?;
    let raw = format!("/api/v1/namespaces/default/pods/{name}:8080/proxy/z");
    ensure!(cluster.kubectl(&["get", "--raw", &raw])? == "one");
    let summary = format!("/api/v1/nodes/{}/proxy/stats/summary", cluster.name(1)?);
    let summary: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", &summary])?)?;
    let own = summary["pods"].as_array().and_then(|all| all.iter().find(|p| p["podRef"]["name"] == name));
    let own = own.context("the summary has no such pod")?;
    ensure!(own["containers"][0]["memory"]["workingSetBytes"].as_u64().is_some_and(|n| n > 0), "{own}");
    Ok(())
}

/// What cannot run is not tried without end.
fn failures(cluster: &Cluster, place: &Value) -> Result<()> {
    let failing = idle(
        "failing",
        Value::Null,
        json!({"command": ["sh", "-c", "echo why > /dev/termination-log; exit 3"]}),
    );
    let nothing = idle("nothing", place.clone(), json!({"command": ["/nothing"]}));
    apply(cluster, &[failing, nothing])?;
    for (pod, code) in [("failing", 3), ("nothing", 128)] {
        let pod = cluster.wait(&format!("{pod} to be put off"), 90, &["pod", pod], |pod| {
            let status = node::container(pod, "main");
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
                && status["restartCount"].as_u64() >= Some(1)
        })?;
        let status = node::container(&pod, "main");
        ensure!(status["lastState"]["terminated"]["exitCode"] == code, "{status}");
        ensure!(status["restartCount"].as_u64() < Some(5), "{status}");
    }
    let failing = cluster.get(&["pod", "failing"])?;
    let message = &node::container(&failing, "main")["lastState"]["terminated"]["message"];
    ensure!(message == "why\n", "{failing}");
    Ok(())
}

/// The node's process is killed and comes back: the pods are the same.
fn survives(cluster: &mut Cluster, place: &Value) -> Result<()> {
    let ids = |cluster: &Cluster| -> Result<Vec<String>> {
        let list = cluster.get(&["pods", "-l", "app=web"])?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        Ok(pods.iter().map(|pod| node::container(pod, "main")["containerID"].to_string()).collect())
    };
    let before = ids(cluster)?;
    cluster.node_mut(1).kill()?;
    cluster.start_node(1)?;
    cluster.node_mut(1).wait_ready()?;
    apply(cluster, &[idle("after", place.clone(), Value::Null)])?;
    ready(cluster, "after")?;
    let after = ids(cluster)?;
    ensure!(before == after, "{before:?} became {after:?}");
    cluster.kubectl(&["delete", "pod", "after", "--timeout=90s"]).map(drop)
}
