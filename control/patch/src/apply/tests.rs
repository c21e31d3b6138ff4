//! Apply and update on real kinds.

use jiff::Timestamp;
use proto_kube::{Gvk, Status, schema};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn write<'a>(kind: &'a Gvk, manager: &'a str, subresource: &'a str, at: i64) -> Write<'a> {
    Write {
        table: schema::table(),
        kind,
        manager,
        subresource,
        filter: &Filter::All,
        convert: &one_version,
        now: Timestamp::from_second(NOW + at).unwrap(),
    }
}

fn deployment() -> Gvk {
    Gvk::new("apps/v1", "Deployment")
}

fn web(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn container(name: &str, image: &str) -> Value {
    json!({"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": name, "image": image, "ports": [{"containerPort": 80}]}]}}})
}

#[test]
fn first() {
    let kind = deployment();
    let one = write(&kind, "kubectl", "", 0).apply(None, &web(container("web", "nginx")), false).unwrap();
    println!("{one:#}");
    let made = write(&kind, "kubectl-create", "", 0).update(None, web(container("web", "nginx")));
    println!("{made:#}");
    let two =
        write(&kind, "helm", "", 1).apply(Some(&one), &web(container("web", "nginx:2")), false).unwrap_err();
    println!("{:#}", Status::from(two).to_json());
}
