//! The grammar by tables; the corner cases are those of the upstream `reference` package's tests.

use super::*;
use proptest::prelude::*;

const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[test]
fn familiar_names_become_full() {
    let table = [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("library/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx:a", "docker.io/library/nginx:a"),
        ("dmcgowan/myapp", "docker.io/dmcgowan/myapp:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("localhost/foo", "localhost/foo:latest"),
        ("localhost:5000/foo/bar:v1", "localhost:5000/foo/bar:v1"),
        ("127.0.0.1:5000/foo", "127.0.0.1:5000/foo:latest"),
        ("[::1]:5000/repo", "[::1]:5000/repo:latest"),
        ("[2001:db8::1]/repo:x", "[2001:db8::1]/repo:x"),
        ("Uppercase/lowercase", "Uppercase/lowercase:latest"),
        ("test.com:8080/foo__bar---x.y:A_b-1.2", "test.com:8080/foo__bar---x.y:A_b-1.2"),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"),
        ("a", "docker.io/library/a:latest"),
        ("a/a/a/a/a", "docker.io/a/a/a/a/a:latest"),
        ("foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080"),
    ];
    for (text, full) in table {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(full.parse::<Reference>().unwrap(), reference, "{text}");
    }
}

#[test]
fn digest_wins_over_tag() {
    let by_digest: Reference = format!("busybox@{DIGEST}").parse().unwrap();
    assert_eq!((by_digest.tag.as_deref(), by_digest.target()), (None, DIGEST));
    let both: Reference = format!("test:5000/repo:tag@{DIGEST}").parse().unwrap();
    assert_eq!(both.to_string(), format!("test:5000/repo:tag@{DIGEST}"));
    assert_eq!((both.target(), both.tagged()), (DIGEST, None));
    assert_eq!("a:b".parse::<Reference>().unwrap().tagged().as_deref(), Some("docker.io/library/a:b"));
}

#[test]
fn bad_references_say_why() {
    use ReferenceError as E;
    let long = format!("a/{}", "a".repeat(255));
    type Expected = fn(&E) -> bool;
    let table: &[(&str, Expected)] = &[
        ("", |e| matches!(e, E::Empty)),
        (":justtag", |e| matches!(e, E::Name(..))),
        ("@sha256:fff", |e| matches!(e, E::Digest(..))),
        ("repo@sha256:ffff", |e| matches!(e, E::Digest(..))),
        ("validname@invaliddigest:ffff", |e| matches!(e, E::Digest(..))),
        ("Uppercase:tag", |e| matches!(e, E::UpperCase(_))),
        ("test:5000/Uppercase/lowercase:tag", |e| matches!(e, E::UpperCase(_))),
        (&long, |e| matches!(e, E::TooLong(_))),
        ("aa/asdf$$^/aa", |e| matches!(e, E::Name(..))),
        ("-foo/bar:tag", |e| matches!(e, E::Name(..))),
        ("foo/bar-/x", |e| matches!(e, E::Name(..))),
        ("foo___bar", |e| matches!(e, E::Name(..))),
        ("foo..bar", |e| matches!(e, E::Name(..))),
        ("foo//bar", |e| matches!(e, E::Name(..))),
        ("docker.io/", |e| matches!(e, E::Name(..))),
        ("a-.com/repo", |e| matches!(e, E::Name(..))),
        ("host.com:x/repo", |e| matches!(e, E::Name(..))),
        ("[fe80::1%eth0]:80/repo", |e| matches!(e, E::Name(..))),
        ("nginx:", |e| matches!(e, E::Tag(..))),
        ("nginx:-x", |e| matches!(e, E::Tag(..))),
        ("nginx:a b", |e| matches!(e, E::Tag(..))),
        ("a:b:c", |e| matches!(e, E::Tag(..))),
        ("https://github.com/docker/docker", |e| matches!(e, E::Name(..))),
        (&DIGEST[7..], |e| matches!(e, E::Id(_))),
    ];
    for (text, expected) in table {
        let error = text.parse::<Reference>().expect_err(text);
        assert!(expected(&error), "{text}: {error:?}");
    }
    assert!(format!("a:{}", "x".repeat(128)).parse::<Reference>().is_ok());
    assert!(format!("a:{}", "x".repeat(129)).parse::<Reference>().is_err());
}

proptest! {
    #[test]
    fn parsing_its_own_text_is_the_identity(text in "\\PC{0,40}|[a-zA-Z0-9.:/@_-]{1,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
        }
    }
}
