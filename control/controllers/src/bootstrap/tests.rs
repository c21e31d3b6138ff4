//! Tokens sign while they are valid, and end.

use serde_json::json;

use super::*;
use crate::driven::Driven;
use crate::resources::{CONFIG_MAPS, SECRETS};

fn token(id: &str, expiration: &str, signs: &str) -> Value {
    let text = |text: &str| STANDARD.encode(text);
    json!({"metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"}, "type": TYPE,
        "data": {"token-id": text(id), "token-secret": text("0123456789abcdef"),
            "usage-bootstrap-signing": text(signs), "expiration": text(expiration)}})
}

#[test]
fn valid_tokens_sign_and_others_do_not() {
    let mut driven = Driven::new(all());
    let sign = |text: &str, id: &str, secret: &str| format!("{text} {id} {secret}");
    driven.facts.sign = Some(sign);
    let info = json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {"kubeconfig": "x"}});
    driven.objects.put(CONFIG_MAPS, info);
    driven.objects.put(SECRETS, token("aaaaaa", "2026-01-01T13:00:00Z", "true"));
    driven.objects.put(SECRETS, token("bbbbbb", "2026-01-02T12:00:00Z", "false"));
    driven.objects.put(SECRETS, token("cccccc", "", "true"));
    driven.objects.put(SECRETS, token("dddddd", "tomorrow", "true"));
    let keys = |driven: &Driven| -> Vec<String> {
        let map = driven.get(CONFIG_MAPS, "kube-public", "cluster-info").unwrap();
        map["data"].as_object().unwrap().keys().cloned().collect()
    };
    driven.settle();
    assert_eq!(keys(&driven), ["jws-kubeconfig-aaaaaa", "jws-kubeconfig-cccccc", "kubeconfig"]);
    assert_eq!(driven.names(SECRETS, "kube-system").len(), 3, "one that is no time is over");
    driven.pass(3600);
    driven.settle();
    assert_eq!(keys(&driven), ["jws-kubeconfig-cccccc", "kubeconfig"]);
    assert_eq!(driven.names(SECRETS, "kube-system").len(), 2);
    driven
        .objects
        .change(CONFIG_MAPS, "kube-public", "cluster-info", |map| map["data"]["kubeconfig"] = "y".into());
    driven.settle();
    let map = driven.get(CONFIG_MAPS, "kube-public", "cluster-info").unwrap();
    assert_eq!(map["data"]["jws-kubeconfig-cccccc"], "y cccccc 0123456789abcdef");
}
