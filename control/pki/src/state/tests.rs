//! What is made anew when, and that certificates hold up before rustls and webpki.

use super::*;
use crate::{Bound, Claims, Pki, Reference};

const NOW: &str = "2026-11-21T00:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn names() -> Names {
    Names::new(["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"])
}

fn renewed(state: &State, now: &str) -> (State, bool) {
    State::renew(Some(state.clone().into()), &names(), time(now)).unwrap()
}

#[test]
fn renewing_again_changes_nothing() {
    let (state, changed) = State::renew(None, &names(), time(NOW)).unwrap();
    assert!(changed);
    assert!(!renewed(&state, NOW).1);
    assert!(!renewed(&state, "2027-05-01T00:00:00Z").1);
}

#[test]
fn what_is_due_is_made_and_the_rest_kept() {
    let (state, _) = State::renew(None, &names(), time(NOW)).unwrap();
    // now, new authority, which signs, new leaves, new token key
    for (now, authority, signs, leaves, tokens) in [
        ("2027-08-01T00:00:00Z", false, false, true, false),
        ("2027-11-21T00:00:00Z", false, false, true, true),
        // Two years before its end there is a successor, which signs a year later.
        ("2034-12-01T00:00:00Z", true, false, true, true),
        ("2035-12-01T00:00:00Z", true, true, true, true),
        // The clock fell back: nothing but the certificates that are not valid yet.
        ("2021-01-01T00:00:00Z", false, false, true, false),
        ("1970-01-01T00:00:00Z", false, false, true, false),
        // It leapt ahead by decades.
        ("2070-01-01T00:00:00Z", true, true, true, true),
    ] {
        let (new, _) = renewed(&state, now);
        let old = &state.authorities[0].certificate;
        assert_eq!(new.authorities.len(), 1 + usize::from(authority), "{now}");
        assert_eq!(new.signer().certificate != *old, signs, "{now}");
        assert!(new.bundle().contains(old.as_str()), "{now}");
        assert_eq!(new.serving.certificate != state.serving.certificate, leaves, "{now}");
        assert_eq!(new.admin.certificate != state.admin.certificate, leaves, "{now}");
        assert_eq!(new.tokens.len(), 1 + usize::from(tokens), "{now}");
        assert!(!renewed(&new, now).1, "{now}");
        // However the clock was wrong: when it is right again, what clients trust is used again.
        let (back, _) = renewed(&new, NOW);
        assert_eq!(back.signer().certificate, *old, "{now}");
        assert!(certificate::is_issued_by(&back.serving.certificate, &state.authorities[0].key), "{now}");
    }
}

#[test]
fn other_names_give_another_certificate() {
    let (state, _) = State::renew(None, &names(), time(NOW)).unwrap();
    let names = Names::new(["localhost", "10.0.0.1"]);
    let (new, changed) = State::renew(Some(state.clone().into()), &names, time(NOW)).unwrap();
    assert!(changed);
    assert_ne!(new.serving.certificate, state.serving.certificate);
    assert_eq!(new.admin.certificate, state.admin.certificate);
}

#[test]
fn a_clients_certificate_is_read_while_it_is_valid() {
    let pki = Pki::open(None, names(), time(NOW)).unwrap();
    let check = |pki: &Pki, pem: &str, now: &str| {
        pki.client(&crate::key::certificates(pem).unwrap(), time(now))
            .map(|c| (c.common_name, c.organizations))
    };
    let masters = ("kubernetes-admin".to_owned(), vec!["system:masters".to_owned()]);
    let admin = pki.admin().certificate;
    assert_eq!(check(&pki, &admin, NOW).unwrap(), masters);
    assert!(check(&pki, &admin, "2028-01-01T00:00:00Z").is_err());
    assert!(check(&pki, &admin, "2026-01-01T00:00:00Z").is_err());
    let jane = pki.issue_client("jane", &["dev", "ops", "qa"], time(NOW)).unwrap();
    assert_eq!(check(&pki, &jane.certificate, NOW).unwrap().1, ["dev", "ops", "qa"]);
    let other = Pki::open(None, names(), time(NOW)).unwrap();
    assert!(check(&other, &admin, NOW).is_err());
    // A server's certificate proves no user.
    let serving = pki.current().state.serving.certificate.clone();
    assert!(check(&pki, &serving, NOW).is_err());
}

#[test]
fn requests_are_signed() {
    let mut params = rcgen::CertificateParams::new(vec!["n1".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let key = rcgen::KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap();
    let pem = request.pem().unwrap();
    let csr = Csr::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(
        (csr.common_name.as_str(), csr.organizations.as_slice()),
        ("system:node:n1", &["system:nodes".to_owned()][..])
    );
    assert_eq!((&csr.names, csr.other_names), (&Names::new(["n1", "10.0.0.1"]), false));
    assert_eq!(Signer::KubeletServing.check(&csr, &["digital signature", "server auth"]), Ok(()));

    let pki = Pki::open(None, names(), time(NOW)).unwrap();
    let signed = pki.sign(&csr, Signer::Client, Some(Duration::from_secs(3600)), time(NOW)).unwrap();
    let read = pki.client(&crate::key::certificates(&signed).unwrap(), time(NOW)).unwrap();
    assert_eq!((read.common_name.as_str(), read.not_after), ("system:node:n1", time("2026-11-21T01:00:00Z")));
    assert_eq!(read.spki, rcgen::PublicKeyData::subject_public_key_info(&key));

    // One byte of the signature changed, or of what is signed.
    for at in [30, request.der().len() - 1] {
        let mut der = request.der().to_vec();
        der[at] ^= 1;
        assert!(Csr::from_pem(crate::key::pem("CERTIFICATE REQUEST", &der).as_bytes()).is_err());
    }
    assert!(Csr::from_pem(b"").is_err());
}

#[test]
fn a_restart_keeps_everything_and_a_copy_makes_its_own_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let open = |names| Pki::open(Some(dir.path()), names, time(NOW)).unwrap();
    let first = open(names());
    let claims = Claims {
        aud: vec!["a".into()],
        exp: time(NOW).as_second() + 600,
        iat: 0,
        iss: "me".into(),
        jti: String::new(),
        bound: Bound { serviceaccount: Reference { name: "x".into(), uid: "u".into() }, ..Bound::default() },
        nbf: 0,
        sub: "system:serviceaccount:ns:x".into(),
    };
    let token = first.sign_token(&claims).unwrap();
    let second = open(names());
    assert_eq!(
        (second.bundle(), second.admin(), second.jwks()),
        (first.bundle(), first.admin(), first.jwks())
    );
    assert_eq!(second.verify_token("me", &token, time(NOW)), Ok(claims));
    assert!(second.renew(time("2028-01-01T00:00:00Z")).unwrap());
    assert_eq!(open(names()).jwks()["keys"].as_array().unwrap().len(), 2);
    let mode = |name| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("pki.json"), mode("ca.crt")), (0o600, 0o644));
    assert_eq!(std::fs::read_to_string(dir.path().join("ca.crt")).unwrap(), first.bundle());
    // The process ended between the two files, or somebody took one away.
    for text in [Some("half"), None] {
        match text {
            Some(text) => std::fs::write(dir.path().join("ca.crt"), text).unwrap(),
            None => std::fs::remove_file(dir.path().join("ca.crt")).unwrap(),
        }
        let opened = open(names());
        assert_eq!(std::fs::read_to_string(dir.path().join("ca.crt")).unwrap(), opened.bundle());
    }
    let pin = crate::join::pin(&first.bundle()).unwrap();
    assert!(pin.starts_with("sha256:") && pin.len() == 71);
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki.json");
    for text in [
        "",
        "{",
        r#"{"version":9,"authorities":[]}"#,
        r#"{"version":1,"authorities":[{"certificate":"","key":""}]}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(Pki::open(Some(dir.path()), names(), time(NOW)).is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
