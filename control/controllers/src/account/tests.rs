//! What each namespace has, and tokens in secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::driven::Driven;
use crate::resources::{CONFIG_MAPS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS};
use crate::{Mutation, World};

const A: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const B: &str = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";

fn driven() -> Driven {
    let mut driven = Driven::new(all());
    driven.facts.root_ca = A.to_owned();
    for name in ["kube-system", "ns"] {
        driven.objects.put(NAMESPACES, json!({"metadata": {"name": name}}));
    }
    driven.settle();
    driven
}

#[test]
fn every_namespace_that_lives_is_complete() {
    let mut driven = driven();
    let trust =
        |driven: &Driven, ns: &str| driven.get(CONFIG_MAPS, ns, "kube-root-ca.crt").unwrap()["data"].clone();
    assert_eq!(trust(&driven, "ns"), json!({"ca.crt": A}));
    driven.objects.remove(SERVICE_ACCOUNTS, "ns", "default");
    driven.objects.change(CONFIG_MAPS, "ns", "kube-root-ca.crt", |map| map["data"]["more"] = "x".into());
    driven.settle();
    assert!(driven.get(SERVICE_ACCOUNTS, "ns", "default").is_some());
    assert_eq!(trust(&driven, "ns"), json!({"ca.crt": A}));
    // A server has published a successor: all follow, and it is not taken back.
    let both = format!("{A}{B}");
    driven.objects.change(CONFIG_MAPS, "kube-system", "kube-root-ca.crt", |map| {
        map["data"]["ca.crt"] = both.clone().into()
    });
    driven.settle();
    assert_eq!(
        (trust(&driven, "ns"), trust(&driven, "kube-system")),
        (json!({"ca.crt": both}), json!({"ca.crt": both}))
    );
    // Another server has published only its own.
    driven
        .objects
        .change(CONFIG_MAPS, "kube-system", "kube-root-ca.crt", |map| map["data"]["ca.crt"] = B.into());
    driven.settle();
    assert_eq!(trust(&driven, "ns")["ca.crt"].as_str().unwrap().matches("BEGIN").count(), 2);
    driven.objects.change(NAMESPACES, "", "ns", |ns| ns["metadata"]["deletionTimestamp"] = "x".into());
    driven.objects.remove(SERVICE_ACCOUNTS, "ns", "default");
    driven.settle();
    assert!(driven.get(SERVICE_ACCOUNTS, "ns", "default").is_none());
}

#[test]
fn a_secret_is_filled_while_its_account_lives() {
    let mut driven = driven();
    let secret = |account: &str| {
        json!({"metadata": {"name": "t", "namespace": "ns",
        "annotations": {"kubernetes.io/service-account.name": account}}, "type": "kubernetes.io/service-account-token"})
    };
    driven.objects.put(SECRETS, secret("default"));
    driven.see(None);
    driven.step(0);
    driven.see(None);
    let filled = driven.get(SECRETS, "ns", "t").unwrap();
    assert_eq!(filled["data"], json!({"ca.crt": STANDARD.encode(A), "namespace": STANDARD.encode("ns")}));
    let world = World { view: &driven.view, facts: &driven.facts, now: driven.now, refused: None };
    let key = ("ns".to_owned(), "t".to_owned());
    let next = token::Tokens.reconcile(&world, &key).mutations;
    assert!(matches!(&next[..], [Mutation::Token(_)]), "{next:?}");
    driven.objects.change(SECRETS, "ns", "t", |secret| secret["data"]["token"] = "dA==".into());
    assert_eq!(driven.settle(), []);
    // Another account of its name is not its own.
    driven.objects.remove(SERVICE_ACCOUNTS, "ns", "default");
    driven.objects.put(SERVICE_ACCOUNTS, json!({"metadata": {"name": "default", "namespace": "ns"}}));
    driven.settle();
    assert!(driven.get(SECRETS, "ns", "t").is_none());
}
