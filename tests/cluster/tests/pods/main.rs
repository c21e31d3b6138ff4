//! What a pod of the API server is given: files and variables from objects, tokens, names, probes, resources that
//! change, containers to look into it with.

mod containerd;
mod restart;

use anyhow::{Result, bail, ensure};
use lab::{Cluster, wait};
use serde_json::{Value, json};

/// A pod that does nothing until it is told to end; `more` is merged into its spec and its container.
fn idle(name: &str, spec: Value, container: Value) -> Value {
    let script = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
    let mut main = json!({"name": "main", "image": "busybox:1.35", "command": ["sh", "-c", script]});
    merge(&mut main, container);
    // The machine of the tests may be short of disk.
    let tolerations = json!([{"operator": "Exists"}]);
    let mut whole =
        json!({"terminationGracePeriodSeconds": 1, "containers": [main], "tolerations": tolerations});
    merge(&mut whole, spec);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole})
}

fn merge(into: &mut Value, more: Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn apply(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    cluster.apply(&list.to_string()).map(drop)
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

fn ready(cluster: &Cluster, pod: &str) -> Result<()> {
    let pod = format!("pod/{pod}");
    let Err(error) = cluster.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]) else {
        return Ok(());
    };
    bail!("{error:#}\n{}", cluster.kubectl(&["describe", &pod])?)
}

fn sh(cluster: &Cluster, pod: &str, script: &str) -> Result<String> {
    Ok(cluster.kubectl(&["exec", pod, "-c", "main", "--", "sh", "-c", script])?.trim_end().to_owned())
}

fn becomes(cluster: &Cluster, pod: &str, script: &str, wanted: &str) -> Result<()> {
    wait::until(&format!("{script} to print {wanted}"), 20, || {
        let text = sh(cluster, pod, script)?;
        Ok(if text == wanted { Ok(()) } else { Err(text) })
    })
}

fn waits(cluster: &Cluster, pod: &str, reason: &str, message: &str) -> Result<()> {
    let state = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    cluster
        .wait(&format!("pod {pod} to wait for {message}"), 30, &["pod", pod], |pod| {
            state(pod)["reason"] == reason && state(pod)["message"].as_str() == Some(message)
        })
        .map(drop)
}

#[test]
fn files_and_variables_from_objects() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let volumes = json!([
        {"name": "map", "configMap": {"name": "map", "items": [{"key": "k", "path": "deep/k", "mode": 0o400}]}},
        {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o440}},
        {"name": "about", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}}]}},
        {"name": "all", "projected": {"sources": [
            {"configMap": {"name": "map"}}, {"secret": {"name": "none", "optional": true}},
            {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}]}},
        {"name": "image", "image": {"reference": "busybox:1.35", "pullPolicy": "IfNotPresent"}},
    ]);
    let mounts = json!([{"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"},
        {"name": "about", "mountPath": "/about"}, {"name": "all", "mountPath": "/all"},
        {"name": "map", "mountPath": "/one", "subPath": "deep/k"}, {"name": "image", "mountPath": "/image"}]);
    let from = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
    let env = json!([{"name": "K", "valueFrom": from("configMapKeyRef", "map", "k")},
        {"name": "S", "valueFrom": from("secretKeyRef", "secret", "word")},
        {"name": "BOTH", "value": "$(K)-$(S)-$(from.k)-$(KUBERNETES_SERVICE_PORT)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    let env_from = json!([{"prefix": "from.", "configMapRef": {"name": "map"}}]);
    let more = json!({"env": env, "envFrom": env_from, "volumeMounts": mounts,
        "resources": {"limits": {"cpu": "250m"}}});
    let pod = idle("box", json!({"volumes": volumes, "securityContext": {"fsGroup": 77}}), more);
    apply(&cluster, &[map("map", json!({"k": "v1"})), secret("secret", json!({"word": "hush"})), pod])?;
    ready(&cluster, "box")?;
    let sh = |script: &str| sh(&cluster, "box", script);
    for (script, text) in [
        ("echo $BOTH", "v1-hush-v1-443"),
        ("cat /map/deep/k /secret/word /one", "v1hushv1"),
        ("cat /about/cpu; cat /about/labels", "250app=\"box\""),
        ("readlink /secret/word", "..data/word"),
        ("stat -c '%a %g' /map/..data/deep/k /secret/..data/word", "440 77\n440 77"),
        ("stat -f -c %T /secret", "tmpfs"),
        ("ls /all", "k\ntoken"),
        ("touch /map/x 2>&1", "touch: /map/x: Read-only file system"),
        ("/image/bin/echo from an image", "from an image"),
    ] {
        let said = sh(&format!("{script} || true"))?;
        ensure!(said == text, "{script}: {said:?} is not {text:?}");
    }
    let ip = cluster.get(&["pod", "box"])?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    ensure!(sh("echo $IP")? == ip);
    let token = sh("cat /var/run/secrets/kubernetes.io/serviceaccount/token")?;
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let who = cluster.kubectl_with(&["create", "-f", "-", "-o", "json"], &review.to_string())?;
    let who: Value = serde_json::from_str(&who)?;
    ensure!(who["status"]["user"]["username"] == "system:serviceaccount:default:default", "{who}");
    ensure!(who["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"][0] == "box", "{who}");
    ensure!(sh("cat /var/run/secrets/kubernetes.io/serviceaccount/namespace")? == "default");
    ensure!(sh("cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt")?.contains("BEGIN CERTIFICATE"));
    apply(
        &cluster,
        &[map("map", json!({"k": "v2", "new": "n"})), secret("secret", json!({"word": "loud"}))],
    )?;
    becomes(&cluster, "box", "cat /map/deep/k /secret/word", "v2loud")?;
    becomes(&cluster, "box", "cat /all/k /all/new", "v2n")?;
    ensure!(sh("cat /one; echo $K")? == "v1v1", "a subPath and a variable stay as they were");
    cluster.kubectl(&["label", "pod", "box", "tier=front"])?;
    becomes(&cluster, "box", "cat /about/labels", "app=\"box\"\ntier=\"front\"")?;
    cluster.kubectl(&["delete", "pod", "box", "--timeout=30s"]).map(drop)
}

#[test]
fn what_is_missing_is_told_and_waited_for() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let volume = json!({"volumes": [{"name": "v", "configMap": {"name": "late"}}]});
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let env = |kind: &str, name: &str, key: &str| json!({"env": [{"name": "X", "valueFrom": {kind: {"name": name, "key": key}}}]});
    apply(
        &cluster,
        &[
            idle("volume", volume, mount),
            idle("variable", Value::Null, env("configMapKeyRef", "late", "k")),
            idle("key", Value::Null, env("secretKeyRef", "there", "none")),
            idle("root", json!({"securityContext": {"runAsNonRoot": true}}), Value::Null),
            secret("there", json!({"some": "thing"})),
        ],
    )?;
    waits(&cluster, "variable", "CreateContainerConfigError", "configmap \"late\" not found")?;
    waits(&cluster, "key", "CreateContainerConfigError", "couldn't find key none in Secret default/there")?;
    let root = "container has runAsNonRoot and image will run as root";
    waits(&cluster, "root", "CreateContainerConfigError", root)?;
    let text = "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found";
    let events = ["events", "--field-selector", "involvedObject.name=volume,reason=FailedMount"];
    cluster.wait("the event", 30, &events, |list| {
        list["items"].as_array().into_iter().flatten().any(|event| event["message"] == text)
    })?;
    let pod = cluster.get(&["pod", "volume"])?;
    ensure!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating",
        "{pod}"
    );
    apply(&cluster, &[map("late", json!({"k": "v"})), secret("there", json!({"none": "any"}))])?;
    for pod in ["volume", "variable", "key"] {
        ready(&cluster, pod)?;
    }
    ensure!(sh(&cluster, "variable", "echo $X")? == "v" && sh(&cluster, "volume", "cat /v/k")? == "v");
    Ok(())
}

#[test]
fn names_and_resolvers() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let named = json!({"hostname": "me", "subdomain": "sub", "setHostnameAsFQDN": true,
        "hostAliases": [{"ip": "192.0.2.200", "hostnames": ["one", "two"]}]});
    let own = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["x.y"],
        "options": [{"name": "ndots", "value": "2"}]}});
    apply(&cluster, &[idle("named", named, Value::Null), idle("own", own, Value::Null)])?;
    for pod in ["named", "own"] {
        ready(&cluster, pod)?;
    }
    let resolver = sh(&cluster, "named", "cat /etc/resolv.conf")?;
    ensure!(resolver.contains("nameserver 10.96.0.10"), "{resolver}");
    ensure!(
        resolver.contains("search default.svc.cluster.local svc.cluster.local cluster.local"),
        "{resolver}"
    );
    ensure!(resolver.contains("options ndots:5"), "{resolver}");
    ensure!(sh(&cluster, "named", "hostname")? == "me.sub.default.svc.cluster.local");
    let hosts = sh(&cluster, "named", "cat /etc/hosts")?;
    ensure!(hosts.starts_with("# Kubernetes-managed hosts file."), "{hosts}");
    ensure!(hosts.contains("me.sub.default.svc.cluster.local\tme"), "{hosts}");
    ensure!(hosts.contains("192.0.2.200\tone\ttwo"), "{hosts}");
    let own = sh(&cluster, "own", "cat /etc/resolv.conf")?;
    ensure!(
        own.contains("nameserver 192.0.2.53") && own.contains("search x.y") && own.contains("ndots:2"),
        "{own}"
    );
    Ok(())
}

#[test]
fn probes_of_every_kind() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let serve = |then: &str| {
        let script =
            format!("mkdir /w; echo ok > /w/z; httpd -p 8080 -h /w; touch /tmp/up; {then}; sleep 1000");
        json!({"command": ["sh", "-c", script], "ports": [{"name": "web", "containerPort": 8080}]})
    };
    let probe = |how: Value| {
        let mut probe = json!({"periodSeconds": 1, "failureThreshold": 1});
        merge(&mut probe, how);
        probe
    };
    let with = |then: &str, kind: &str, how: Value| {
        let mut container = serve(then);
        container[kind] = probe(how);
        container
    };
    let (web, tcp) =
        (json!({"httpGet": {"path": "/z", "port": "web"}}), json!({"tcpSocket": {"port": 8080}}));
    let exec = json!({"exec": {"command": ["cat", "/tmp/up"]}, "initialDelaySeconds": 1});
    apply(
        &cluster,
        &[
            idle("web", Value::Null, with("sleep 4; rm /w/z", "livenessProbe", web.clone())),
            idle("exec", Value::Null, with("sleep 4; rm /tmp/up", "livenessProbe", exec)),
            idle("tcp", Value::Null, with("sleep 1", "readinessProbe", tcp)),
            idle("never", Value::Null, with("rm /w/z", "readinessProbe", web)),
            idle("grpc", Value::Null, with("sleep 1", "readinessProbe", json!({"grpc": {"port": 9}}))),
        ],
    )?;
    ready(&cluster, "tcp")?;
    for pod in ["web", "exec"] {
        cluster.wait(&format!("pod {pod} to be restarted"), 60, &["pod", pod], |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
        })?;
    }
    let events = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"])?;
    for text in [
        "Liveness probe failed: HTTP probe failed with statuscode: 404",
        "Liveness probe failed: cat: can't open '/tmp/up': No such file or directory",
        "Container main failed liveness probe, will be restarted",
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    ] {
        ensure!(events.contains(text), "{text} is not in {events}");
    }
    for pod in ["never", "grpc"] {
        let pod = cluster.get(&["pod", pod])?;
        let status = &pod["status"]["containerStatuses"][0];
        ensure!(status["ready"] == false && status["restartCount"] == 0, "{status}");
    }
    Ok(())
}

#[test]
fn resources_change_and_debuggers_come() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu, "memory": "64Mi"}});
    apply(&cluster, &[idle("box", Value::Null, json!({"resources": resources("100m")}))])?;
    ready(&cluster, "box")?;
    let patch = |cpu: &str| {
        let patch =
            json!({"spec": {"containers": [{"name": "main", "resources": resources(cpu)}]}}).to_string();
        cluster.kubectl(&["patch", "pod", "box", "--subresource", "resize", "--patch", &patch])
    };
    patch("200m")?;
    cluster.wait("the new limit", 20, &["pod", "box"], |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["resources"]["limits"]["cpu"] == "200m" && status["allocatedResources"]["cpu"] == "200m"
    })?;
    let quota = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us 2>/dev/null";
    let told = sh(&cluster, "box", &format!("{quota} || true"))?;
    ensure!(told.contains("20000"), "{told}");
    let other = json!({"resources": {"requests": {"cpu": "1500m"}}});
    apply(&cluster, &[idle("other", Value::Null, other)])?;
    ready(&cluster, "other")?;
    patch("700m")?;
    cluster.wait("the resize to be put off", 20, &["pod", "box"], |pod| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == "PodResizePending" && c["reason"] == "Deferred")
    })?;
    cluster.kubectl(&["delete", "pod", "other", "--timeout=30s"])?;
    cluster.wait("the resize to be made up for", 20, &["pod", "box"], |pod| {
        let resizing = |c: &Value| c["type"].as_str().is_some_and(|kind| kind.starts_with("PodResize"));
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"] == "700m"
            && !conditions.into_iter().any(resizing)
    })?;
    let pod = cluster.get(&["pod", "box"])?;
    ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{pod}");
    ensure!(pod["status"]["observedGeneration"] == pod["metadata"]["generation"], "{pod}");
    cluster.kubectl(&[
        "debug",
        "box",
        "--image=busybox:1.35",
        "-c",
        "look",
        "--target=main",
        "--",
        "sh",
        "-c",
        "ps; sleep 1000",
    ])?;
    wait::until("the debugger to see the other's processes", 30, || {
        let log = cluster.kubectl(&["logs", "box", "-c", "look"]).unwrap_or_else(|error| error.to_string());
        let told = || cluster.kubectl(&["describe", "pod", "box"]);
        Ok(if log.contains("while :; do sleep 1") { Ok(()) } else { Err(format!("{log}\n{}", told()?)) })
    })?;
    let pod = cluster.get(&["pod", "box"])?;
    ensure!(pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object(), "{pod}");
    Ok(())
}
