//! Those who are not who they say they are, or no longer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::Config;
use jiff::{SignedDuration, Timestamp};
use lab::Control;
use pki::{Names, Pki};

use crate::raw::{Answer, Raw, head};
use crate::{MAPS, assert_no_panic, copy_files};

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

fn assert_unauthorized(answer: &Answer, what: &str) {
    assert_eq!(answer.code, 401, "{what}: {}", answer.text());
    answer.assert_status(what);
    assert_eq!(answer.json()["reason"], "Unauthorized", "{what}");
}

#[test]
fn tokens_that_are_none() {
    let control = Control::start().unwrap();
    let mut config = Config::load(&control.kubeconfig(), None).unwrap();
    config.certificate = None;
    let raw = Raw::with(&config);
    assert_unauthorized(&raw.get(MAPS), "nobody");
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = encode(
        r#"{"iss":"https://kubernetes.default.svc.cluster.local","sub":"system:serviceaccount:kube-system:a","aud":["https://kubernetes.default.svc.cluster.local"],"exp":99999999999,"iat":1}"#,
    );
    let unsigned = format!("{}.{claims}.", encode(r#"{"alg":"none"}"#));
    let forged = format!("{}.{claims}.{}", encode(r#"{"alg":"ES256","kid":"x"}"#), encode(&"s".repeat(64)));
    let symmetric = format!("{}.{claims}.{}", encode(r#"{"alg":"HS256"}"#), encode(&"s".repeat(32)));
    let deep = format!("{}.{}.x", encode(&"[".repeat(10_000)), encode(&"{\"a\":".repeat(5_000)));
    let long = "x".repeat(60_000);
    let tokens =
        ["x", "..", "a.b.c", "\t", "abcdef.0123456789abcdef", &unsigned, &forged, &symmetric, &deep, &long];
    for token in tokens {
        let what: String = token.chars().take(40).collect();
        let answer = raw.ask("GET", MAPS, &[("authorization", &format!("Bearer {token}"))], b"");
        assert_unauthorized(&answer, &what);
    }
    for scheme in ["Basic YWRtaW46YWRtaW4=", "Bearer", "Negotiate x", "", ","] {
        assert_unauthorized(&raw.ask("GET", MAPS, &[("authorization", scheme)], b""), scheme);
    }
    let odd =
        [head("GET", MAPS, &[]).as_bytes(), b"authorization: Bearer \xff\xfe\r\nconnection: close\r\n\r\n"]
            .concat();
    assert!(raw.send(&odd).is_none_or(|answer| [400, 401].contains(&answer.code)));
    // Nobody becomes another by asking for it.
    assert_unauthorized(
        &raw.ask("GET", MAPS, &[("impersonate-user", "kubernetes-admin")], b""),
        "impersonation",
    );
    assert_eq!(raw.get("/livez").code, 200);
    assert_no_panic(&control);
}

#[test]
fn certificates_out_of_their_time_and_of_others() {
    let control = Control::start().unwrap();
    let config = Config::load(&control.kubeconfig(), None).unwrap();
    let now = Timestamp::now();
    let folder = tempfile::tempdir().unwrap();
    copy_files(&control.folder().join("data/control/pki"), folder.path());
    // The server's own authority, in other hands and at other times.
    let (ours, now_names) = (folder.path(), || Names::new(vec!["localhost".to_owned()]));
    let ours = Pki::open(Some(ours), now_names(), now).unwrap();
    let others = Pki::open(None, now_names(), now).unwrap();
    let asked = |pki: &Pki, at: Timestamp| {
        let identity = pki.issue_client("kubernetes-admin", &["system:masters"], at).unwrap();
        let certificate = Some((identity.certificate.into_bytes(), identity.key.into_bytes()));
        let raw = Raw::with(&Config { certificate, ..config.clone() });
        // A server may refuse the handshake as well.
        raw.send((head("GET", MAPS, &[("connection", "close")]) + "\r\n").as_bytes())
    };
    assert_eq!(asked(&ours, now).expect("an answer").code, 200, "what follows would show nothing");
    for (what, pki, at) in [
        ("expired", &ours, now - YEAR - YEAR - YEAR),
        ("not valid yet", &ours, now + YEAR + YEAR),
        ("of another authority", &others, now),
    ] {
        if let Some(answer) = asked(pki, at) {
            assert_unauthorized(&answer, what);
        }
    }
    assert_eq!(Raw::admin(&control).get(MAPS).code, 200);
    assert_no_panic(&control);
}
