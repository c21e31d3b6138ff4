//! Requests for certificates: what is let pass is what is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{Csr, Key, Names};
use serde_json::{Value, json};

use super::client::Client;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn asks(signer: &str, pem: &str) -> Value {
    json!({
        "metadata": {"name": "c"},
        "spec": {"request": STANDARD.encode(pem), "signerName": signer, "usages": ["client auth"]},
    })
}

fn request(groups: &[&str]) -> String {
    pki::request(&Key::generate().unwrap(), "jane", groups, &Names::default()).unwrap()
}

#[tokio::test]
async fn no_request_hides_another() {
    let client = Client::new().await;
    let (good, bad) = (request(&["dev"]), request(&["system:masters"]));
    let uri = format!("{REQUESTS}?dryRun=All");
    // Who looks for the word finds the first one, who looks at the start of lines the second.
    let hiding = format!("#{good}{bad}");
    for signer in ["kubernetes.io/kube-apiserver-client", "example.com/a"] {
        let refused = client.post(&uri, &asks(signer, &hiding)).await.is(422);
        assert!(
            refused.message().contains("must be one PEM block CERTIFICATE REQUEST"),
            "{}",
            refused.message()
        );
    }

    let crlf = good.replace('\n', "\r\n");
    let pieces = ["", "#", "\n", "\r", "\u{a0}", "-----BEGIN CERTIFICATE REQUEST-----\n", &good, &crlf, &bad];
    let mut passed = 0;
    for (first, second) in pieces.iter().flat_map(|first| pieces.iter().map(move |second| (first, second))) {
        for third in pieces {
            let text = format!("{first}{second}{third}");
            let object = asks("kubernetes.io/kube-apiserver-client", &text);
            if client.post(&uri, &object).await.code == 201 {
                assert_eq!(Csr::from_pem(text.as_bytes()).unwrap().organizations, ["dev"], "{text:?}");
                passed += 1;
            }
        }
    }
    assert!(passed > 6, "{passed}");
}
