//! Certificates for nodes, and tokens by which they join.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Query;
use serde_json::{Value, json};

use crate::plane::{Plane, create, find, until};

const REQUESTS: (&str, &str) = ("certificates.k8s.io", "certificatesigningrequests");
const CLIENT: [&str; 3] = ["key encipherment", "digital signature", "client auth"];
const SERVER: [&str; 3] = ["key encipherment", "digital signature", "server auth"];

fn request(name: &str, signer: &str, node: &str, names: &[&str], usages: &[&str]) -> Value {
    of((&format!("system:node:{node}"), "system:nodes"), name, signer, names, usages)
}

fn of((user, group): (&str, &str), name: &str, signer: &str, names: &[&str], usages: &[&str]) -> Value {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({"metadata": {"name": name}, "spec": {"signerName": format!("kubernetes.io/{signer}"),
        "request": STANDARD.encode(pem), "usages": usages}})
}

async fn decided(plane: &Plane, name: &str) -> Value {
    until(name, || async {
        let status = plane.get(REQUESTS, "", name).await?["status"].clone();
        (!status["certificate"].is_null() || status["conditions"][0]["type"] == "Denied").then_some(status)
    })
    .await
}

#[tokio::test]
async fn nodes_get_certificates_for_what_they_are() {
    let mut plane = Plane::start().await;
    let joins = plane.user("system:bootstrap:abcdef", &["system:bootstrappers"]);
    create(&joins, REQUESTS, request("first", "kube-apiserver-client-kubelet", "n", &[], &CLIENT))
        .await
        .unwrap();
    let status = decided(&plane, "first").await;
    assert_eq!(status["conditions"][0]["reason"], "AutoApproved");
    assert!(status["certificate"].is_string());

    plane.node("n", true).await;
    let node = plane.user("system:node:n", &["system:nodes"]);
    create(&node, REQUESTS, request("next", "kube-apiserver-client-kubelet", "n", &[], &CLIENT))
        .await
        .unwrap();
    assert!(decided(&plane, "next").await["certificate"].is_string());
    let served = ["n", "192.0.2.1"];
    create(&node, REQUESTS, request("serving", "kubelet-serving", "n", &served, &SERVER)).await.unwrap();
    assert!(decided(&plane, "serving").await["certificate"].is_string());

    // Another may not have its name as long as it lives, nor does it get others' addresses.
    create(&joins, REQUESTS, request("thief", "kube-apiserver-client-kubelet", "n", &[], &CLIENT))
        .await
        .unwrap();
    assert_eq!(decided(&plane, "thief").await["conditions"][0]["reason"], "NodeNameInUse");
    let others = ["n", "192.0.2.99"];
    create(&node, REQUESTS, request("liar", "kubelet-serving", "n", &others, &SERVER)).await.unwrap();
    create(&node, REQUESTS, request("proof", "kubelet-serving", "n", &served, &SERVER)).await.unwrap();
    decided(&plane, "proof").await;
    assert!(plane.get(REQUESTS, "", "liar").await.unwrap()["status"]["conditions"].is_null());
    // Somebody without the right does not get one either.
    let jane = plane.user("jane", &[]);
    assert!(
        create(&jane, REQUESTS, request("j", "kube-apiserver-client-kubelet", "m", &[], &CLIENT))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_people_grant_is_signed_or_refused_with_the_reason() {
    let plane = Plane::start().await;
    for (name, usages) in [("good", &CLIENT), ("bad", &SERVER)] {
        let mut asked =
            plane.create(REQUESTS, of(("bob", "ops"), name, "kube-apiserver-client", &[], usages)).await;
        let granted = json!([{"type": "Approved", "status": "True", "reason": "Test", "message": ""}]);
        asked["status"]["conditions"] = granted;
        plane.admin.update(find(REQUESTS), Some("approval"), &asked, Query::default()).await.unwrap();
    }
    let signed = decided(&plane, "good").await["certificate"].as_str().unwrap().to_owned();
    let pem = String::from_utf8(STANDARD.decode(signed).unwrap()).unwrap();
    let certificate = pki::Certificate::from_pem(&pem).unwrap();
    assert_eq!(
        (certificate.common_name.as_str(), &certificate.organizations[..]),
        ("bob", &["ops".to_owned()][..])
    );
    let failed = until("a refusal", || async {
        let request = plane.get(REQUESTS, "", "bad").await?;
        request["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Failed").cloned()
    })
    .await;
    assert_eq!(failed["reason"], "SignerValidationFailure");
    assert_eq!(failed["message"], "usages did not match [client auth]");
}

#[tokio::test]
async fn tokens_sign_how_to_join_and_end() {
    let plane = Plane::start().await;
    let text = |text: &str| STANDARD.encode(text);
    let soon = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(3)).unwrap();
    let token = json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token", "data": {"token-id": text("abcdef"),
        "token-secret": text("0123456789abcdef"), "usage-bootstrap-signing": text("true"),
        "expiration": text(&soon.to_string())}});
    plane.create(("", "secrets"), token).await;
    let anybody = plane.user("system:anonymous", &["system:unauthenticated"]);
    let maps = find(("", "configmaps"));
    let info = || anybody.get(maps, "kube-public", "cluster-info");
    let signed = until("a signature", || async {
        info().await.unwrap()["data"].get("jws-kubeconfig-abcdef").cloned()
    })
    .await;
    assert!(signed.as_str().unwrap().contains(".."), "{signed}");
    until("its end", || async {
        let there = plane.get(("", "secrets"), "kube-system", "bootstrap-token-abcdef").await.is_some();
        let signed = info().await.unwrap()["data"].get("jws-kubeconfig-abcdef").is_some();
        (!there && !signed).then_some(())
    })
    .await;
}
