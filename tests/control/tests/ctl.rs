//! `cleat ctl`, a real process, against a running control plane.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use lab::Control;
use lab::control::feed;
use serde_json::Value;

const MANIFESTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf, labels: {app: web}}
data: {mode: "1"}
"#;

fn command(control: &Control, line: &str) -> Command {
    let mut command = control.client(&lab::programs::debug().unwrap().join("cleat"));
    command.arg("ctl").args(line.split(' ').filter(|w| !w.is_empty()));
    command.arg("--kubeconfig").arg(control.kubeconfig());
    command
}

fn output(control: &Control, line: &str, input: &str) -> Output {
    feed(&mut command(control, line), input).unwrap()
}

fn ctl(control: &Control, line: &str, input: &str) -> String {
    let output = output(control, line, input);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(control: &Control, line: &str) -> Value {
    serde_json::from_str(&ctl(control, &format!("{line} -o json"), "")).unwrap()
}

/// What is said when it fails.
fn refused(control: &Control, line: &str) -> String {
    let output = output(control, line, "");
    assert!(!output.status.success() && output.stdout.is_empty(), "{line}: {output:?}");
    String::from_utf8(output.stderr).unwrap().trim().to_owned()
}

#[test]
fn the_daily_verbs() {
    let control = Control::start().unwrap();
    let ctl = |line: &str| ctl(&control, line, "");
    let apply = |text: &str| self::ctl(&control, "apply -f -", text);
    assert_eq!(apply(MANIFESTS), "deployment.apps/web created\nconfigmap/conf created\n");
    assert_eq!(apply(MANIFESTS), "deployment.apps/web unchanged\nconfigmap/conf unchanged\n");
    let more = MANIFESTS.replace("replicas: 2", "replicas: 3");
    assert_eq!(apply(&more), "deployment.apps/web configured\nconfigmap/conf unchanged\n");

    assert_eq!(ctl("scale deploy web --replicas 5"), "deployment.apps/web scaled\n");
    assert_eq!(ctl("label deploy/web tier=front app-"), "deployment.apps/web labeled\n");
    assert_eq!(ctl("annotate cm conf why=because"), "configmap/conf annotated\n");
    assert_eq!(ctl(r#"patch cm conf -p {"data":{"mode":"2"}}"#), "configmap/conf patched\n");
    let web = json(&control, "get deploy web");
    assert_eq!((&web["spec"]["replicas"], &web["metadata"]["labels"]["tier"]), (&5.into(), &"front".into()));
    assert!(web["metadata"]["labels"]["app"].is_null() && web["metadata"]["managedFields"].is_null());
    let conf = json(&control, "get cm conf");
    assert_eq!(
        (&conf["data"]["mode"], &conf["metadata"]["annotations"]["why"]),
        (&"2".into(), &"because".into())
    );

    let error = refused(&control, "wait --for condition=Available --timeout 1 deploy web");
    assert!(error.contains("deployment.apps/web"), "{error}");
    assert_eq!(ctl("delete deploy web"), "deployment.apps/web deleted\n");
    assert_eq!(ctl("delete cm -l app=web -o name"), "configmap/conf\n");
    assert_eq!(refused(&control, "get cm conf"), r#"error: configmaps "conf" not found"#);
}

#[test]
fn what_is_there_in_every_form() {
    let control = Control::start().unwrap();
    let ctl = |line: &str| ctl(&control, line, "");
    let names =
        "namespace/default\nnamespace/kube-node-lease\nnamespace/kube-public\nnamespace/kube-system\n";
    assert_eq!(ctl("get ns -o name"), names);
    let table = ctl("get namespaces");
    assert!(table.starts_with("NAME              STATUS   AGE\ndefault           Active "), "{table}");
    let wide = ctl("get svc -A -o wide");
    let header: Vec<&str> = wide.lines().next().unwrap().split_whitespace().collect();
    let expected = ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"];
    assert_eq!(header, expected);
    assert!(!ctl("get svc").contains("SELECTOR"));
    assert_eq!(json(&control, "get ns")["items"].as_array().unwrap().len(), 4);
    assert!(ctl("get ns default -o yaml").starts_with("---\napiVersion: v1\nkind: Namespace\n"));
    assert!(ctl("get all").contains("service/kubernetes"));
    assert!(ctl("describe svc kubernetes").ends_with("# no events\n"));
    assert!(ctl("api-resources").contains("deployments"));
    let nothing = output(&control, "get pods", "");
    assert_eq!(String::from_utf8_lossy(&nothing.stderr), "No resources found in default namespace.\n");
}

#[test]
fn refusals_say_what_to_do() {
    let control = Control::start().unwrap();
    for (line, expected) in [
        ("get foo", r#"error: the cluster has no resource type "foo"; `cleat ctl api-resources` lists them"#),
        ("get pods nope", r#"error: pods "nope" not found"#),
        ("delete", "error: nothing to delete: name objects as `TYPE NAME`, or files with -f"),
        ("label ns default", "error: which labels? KEY=VALUE sets one, KEY- removes it"),
        ("label ns default a=b x", r#"error: "x" is neither KEY=VALUE nor KEY-"#),
        ("scale cm a --replicas 1", "error: configmap/a has no replicas to scale"),
        ("logs web", "error: pods \"web\" not found"),
        ("get pods --context other", ""),
    ] {
        let error = refused(&control, line);
        assert!(
            if expected.is_empty() { error.contains("other") } else { error == expected },
            "{line}: {error}"
        );
    }
    let strict = output(&control, "create -f -", &MANIFESTS.replace("replicas", "replica"));
    let error = String::from_utf8(strict.stderr).unwrap();
    assert!(!strict.status.success() && error.contains(r#"unknown field "spec.replica""#), "{error}");
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let control = Control::start().unwrap();
    let mut child = command(&control, "get clusterroles -o json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[test]
fn what_a_start_suggests_works() {
    let control = Control::start().unwrap();
    let log = control.log();
    let file = control.folder().join("backup");
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| line.starts_with('/')).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for line in lines {
        // What it does is said two spaces after it.
        let line = line.split("  ").next().unwrap().replace("FILE", file.to_str().unwrap());
        let words: Vec<&str> = line.split(' ').collect();
        let output = feed(Command::new(words[0]).args(&words[1..]), "").unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }
    assert!(file.exists(), "{log}");
}
