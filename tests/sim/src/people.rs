//! What people want of the cluster, and how they change their minds.

use controllers::Mutation;
use fastrand::Rng;
use jiff::Timestamp;
use proto_kube::object;
use serde_json::{Value, json};

use crate::server::{Of, Server, key, served};

/// What there is from the beginning.
pub(crate) fn begin(server: &mut Server, now: Timestamp, calm: bool, rng: &mut Rng) {
    let mut make = |of: Of, object: Value| {
        let made = server.apply("people", &Mutation::Create(served(of.0, of.1), object), now);
        debug_assert!(made.is_ok(), "{made:?}");
    };
    for name in ["default", "kube-system", "kube-node-lease"] {
        let namespace = json!({"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        make(("", "namespaces"), namespace);
    }
    // Where nothing is to go wrong nobody is more important than others.
    let ranks: &[i64] = if calm { &[0] } else { &[0, 0, 10, 100] };
    let wish = |app: &str, rng: &mut Rng| Wish {
        app: app.to_owned(),
        cpu: rng.u8(1..4),
        priority: *rng.choice(ranks).expect("there are some"),
    };
    make(("apps", "deployments"), deployment(&wish("web", rng), rng.i64(1..5), rng));
    make(("", "services"), service("web"));
    if rng.bool() {
        make(("apps", "deployments"), deployment(&wish("api", rng), rng.i64(1..4), rng));
    }
    if rng.bool() {
        make(("apps", "daemonsets"), daemon(&wish("agent", rng)));
    }
    if rng.bool() {
        make(("apps", "statefulsets"), stateful(&wish("db", rng), rng.i64(1..4)));
    }
    if rng.bool() {
        make(("batch", "jobs"), job(&wish("task", rng), rng.i64(1..4)));
    }
}

/// What people want of an application's pods.
struct Wish {
    app: String,
    /// In tenths of a core.
    cpu: u8,
    priority: i64,
}

/// What a person does; in a calm cluster only rolling updates.
pub(crate) fn act(server: &mut Server, now: Timestamp, calm: bool, rng: &mut Rng) {
    let (of, mutation) = match if calm { 0 } else { rng.u8(..12) } {
        0..=2 => (("apps", "deployments"), "update"),
        3..=4 => (("apps", "deployments"), "scale"),
        5 => (("", "pods"), "delete"),
        6 => (("", "nodes"), "delete"),
        7 => (("apps", "deployments"), "delete"),
        8 => (("apps", "statefulsets"), "scale"),
        9..=10 => (("", "pods"), "delete at once"),
        _ => (("apps", "daemonsets"), "update"),
    };
    let mut all = server.list(of);
    if all.is_empty() {
        return;
    }
    let victim = all.swap_remove(rng.usize(..all.len()));
    let resource = served(of.0, of.1);
    let merge = |patch: Value| Mutation::Merge(resource, key(&victim), None, patch);
    let change = match mutation {
        "scale" => merge(json!({"spec": {"replicas": rng.i64(0..5)}})),
        "update" => {
            // Of three images: an update is now and then one that goes back.
            let image = format!("web:{}", rng.u8(..3));
            let mut containers = victim["spec"]["template"]["spec"]["containers"].clone();
            containers[0]["image"] = image.into();
            merge(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        }
        "delete at once" => Mutation::Delete(resource, key(&victim), json!({"gracePeriodSeconds": 0})),
        _ => {
            let policy = *rng.choice(&["Background", "Foreground"]).expect("there are some");
            Mutation::Delete(resource, key(&victim), json!({"propagationPolicy": policy}))
        }
    };
    let done = server.apply("people", &change, now).is_ok();
    server.say(|| format!("people: {} -> {done}", crate::server::words(&change)));
    if mutation == "delete" && of.1 == "deployments" && rng.bool() {
        // It is wanted again at once; where the old one waits for its pods nobody gets it.
        let template = &victim["spec"]["template"]["spec"];
        let priority = template["priority"].as_i64().unwrap_or_default();
        let wish = Wish { app: object::name(&victim).to_owned(), cpu: rng.u8(1..4), priority };
        let again = deployment(&wish, rng.i64(1..4), rng);
        let again = server.apply("people", &Mutation::Create(resource, again), now).is_ok();
        server.say(|| format!("people: made again -> {again}"));
    }
}

fn template(Wish { app, cpu, priority }: &Wish, image: &str, restart: &str) -> Value {
    let bears = |taint: &str| json!({"key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30});
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "restartPolicy": restart, "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "securityContext": {}, "priority": priority,
            "tolerations": [bears("not-ready"), bears("unreachable")],
            "containers": [{"name": "c", "image": image, "resources": {"requests": {"cpu": format!("{cpu}00m")}},
                "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
        },
    })
}

fn selector(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

fn deployment(wish: &Wish, replicas: i64, rng: &mut Rng) -> Value {
    let name = &wish.app;
    let (down, up) = *rng.choice(&[(1, 1), (0, 1), (1, 0), (0, 2)]).expect("there are some");
    json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"replicas": replicas, "selector": selector(name), "template": template(wish, "web:0", "Always"),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": down, "maxSurge": up}},
            "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600},
    })
}

fn daemon(wish: &Wish) -> Value {
    let name = &wish.app;
    json!({
        "metadata": {"namespace": "kube-system", "name": name},
        "spec": {"selector": selector(name), "template": template(wish, "web:0", "Always"), "revisionHistoryLimit": 2,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}},
    })
}

fn stateful(wish: &Wish, replicas: i64) -> Value {
    let name = &wish.app;
    json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"replicas": replicas, "selector": selector(name), "template": template(wish, "db:0", "Always"),
            "serviceName": name, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 2,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}},
    })
}

fn job(wish: &Wish, completions: i64) -> Value {
    let name = &wish.app;
    let mut template = template(wish, "job:0", "OnFailure");
    let labels = json!({"app": name, "batch.kubernetes.io/controller-uid": "job-uid"});
    template["metadata"]["labels"] = labels;
    json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"completions": completions, "parallelism": 2, "backoffLimit": 1000, "completionMode": "NonIndexed",
            "suspend": false, "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "job-uid"}}, "template": template},
    })
}

fn service(name: &str) -> Value {
    json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"selector": {"app": name}, "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "type": "ClusterIP",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]},
    })
}
