//! Pulls from Debian's docker-registry, filled by skopeo.

mod support;

use image::{Credentials, Platform, PullErrorKind, Registries};
use support::*;

fn arm64() -> Platform {
    "linux/arm64".parse().unwrap_or_else(|never| match never {})
}

/// A layout with an index of two platforms, three layers each, the lowest shared.
fn two_platforms(directory: &std::path::Path) {
    let mut content = Content::default();
    let base = Layer::gzip(&tar_of(&[("bin/hello", b"base"), ("etc/base", b"1")]));
    let mut images = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let own = Layer::gzip(&tar_of(&[("etc/arch", architecture.as_bytes()), ("etc/.wh.base", b"")]));
        let noise = Layer::zstd(&tar_of(&[("usr/noise", &noise(3_000_000, 7))]));
        images.push(content.image(architecture, &[base.clone(), own, noise]));
    }
    let digest = content.index(&images);
    let size = content.manifests[digest.as_str()].1.len();
    content.layout(
        directory,
        &[serde_json::json!({"mediaType": INDEX, "digest": digest.as_str(), "size": size})],
    );
}

#[tokio::test]
async fn index_tag_digest_and_removal() {
    let registry = DockerRegistry::start("", "");
    let layout = tempfile::tempdir().unwrap();
    two_platforms(layout.path());
    let name = registry.name("team/app:v1");
    let source = format!("oci:{}", layout.path().display());
    skopeo(&["copy", "--all", "--dest-tls-verify=false", &source, &format!("docker://{name}")]);

    let home = Home::new();
    let image = home
        .store
        .pull(&registries(), &name, None, &amd64())
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(image.tags, std::slice::from_ref(&name));
    assert_eq!((image.config.user.as_str(), image.layers.len()), ("1000", 3));
    assert!(image.size > 3_000_000, "{}", image.size);
    let id = image.id.to_string();
    assert_eq!(read(&home.store, &id, "etc/arch").as_deref(), Some(b"amd64".as_slice()));
    assert_eq!(read(&home.store, &id, "usr/noise"), Some(noise(3_000_000, 7)));

    // By digest: the same image, one more name at most.
    let by_digest = image.digests[0].clone();
    let again = home.store.pull(&registries(), &by_digest, None, &amd64()).await.unwrap();
    assert_eq!((&again.id, &again.tags, &again.digests), (&image.id, &image.tags, &image.digests));

    let other = home.store.pull(&registries(), &name, None, &arm64()).await.unwrap();
    assert_eq!(read(&home.store, other.id.as_str(), "etc/arch").as_deref(), Some(b"arm64".as_slice()));
    // The tag has moved; the first image is still known by its digest.
    assert_eq!(home.store.get(&name).unwrap().unwrap().id, other.id);
    assert!(home.store.get(&id).unwrap().unwrap().tags.is_empty());

    let missing = "linux/s390x".parse().unwrap_or_else(|never| match never {});
    let error = home.store.pull(&registries(), &name, None, &missing).await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::NotFound);
    assert!(
        chain(&error).contains("no image for linux/s390x: offered are linux/amd64, linux/arm64"),
        "{}",
        chain(&error)
    );

    for image in home.store.list().unwrap() {
        assert!(home.store.remove(image.id.as_str()).unwrap());
    }
    home.assert_empty();
}

#[tokio::test]
async fn basic_authentication_over_tls_with_an_own_authority() {
    let files = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, private) = (files.path().join("ca.crt"), files.path().join("key.pem"));
    std::fs::write(&certificate, key.cert.pem()).unwrap();
    std::fs::write(&private, key.signing_key.serialize_pem()).unwrap();
    let htpasswd = files.path().join("htpasswd");
    // "pass" by bcrypt.
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let tls = format!("  tls:\n    certificate: {}\n    key: {}", certificate.display(), private.display());
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}", htpasswd.display());
    let registry = DockerRegistry::start(&tls, &auth);
    let layout = tempfile::tempdir().unwrap();
    two_platforms(layout.path());
    let name = registry.name("app:v1");
    let (source, target) = (format!("oci:{}", layout.path().display()), format!("docker://{name}"));
    skopeo(&["copy", "--all", "--dest-tls-verify=false", "--dest-creds", "user:pass", &source, &target]);

    let certs_d = files.path().join("certs.d");
    let host = certs_d.join(format!("127.0.0.1:{}", registry.port));
    std::fs::create_dir_all(&host).unwrap();
    let hosts = |ca: &str| format!("server = 'https://127.0.0.1:{}'\n{ca}", registry.port);
    std::fs::write(host.join("hosts.toml"), hosts("")).unwrap();
    let docker = files.path().join("config.json");
    let registries = Registries::patient(vec![certs_d.clone()], Some(docker.clone()), impatient());
    let home = Home::new();
    let pull = async |credentials| home.store.pull(&registries, &name, credentials, &amd64()).await;
    let credentials = |password: &str| {
        Some(Credentials::Basic { username: "user".to_owned(), password: password.to_owned() })
    };

    let untrusted = pull(credentials("pass")).await.unwrap_err();
    assert_eq!(untrusted.kind(), PullErrorKind::Unavailable);
    assert!(chain(&untrusted).contains("certificate"), "{}", chain(&untrusted));

    std::fs::write(host.join("hosts.toml"), hosts(&format!("ca = '{}'", certificate.display()))).unwrap();
    for wrong in [None, credentials("wrong")] {
        let error = pull(wrong).await.unwrap_err();
        assert_eq!(error.kind(), PullErrorKind::Unauthorized, "{}", chain(&error));
        assert!(chain(&error).contains("access denied"), "{}", chain(&error));
    }
    pull(credentials("pass")).await.unwrap_or_else(|e| panic!("{}", chain(&e)));

    // The same from docker's configuration.
    let auths = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, registry.port);
    std::fs::write(&docker, auths).unwrap();
    pull(None).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
}

const HTPASSWD: &str = include_str!("support/htpasswd");

#[tokio::test]
async fn mirrors_are_asked_first() {
    let mirror = DockerRegistry::start("", "");
    let layout = tempfile::tempdir().unwrap();
    two_platforms(layout.path());
    let target = format!("docker://{}", mirror.name("library/app:v1"));
    skopeo(&[
        "copy",
        "--all",
        "--dest-tls-verify=false",
        &format!("oci:{}", layout.path().display()),
        &target,
    ]);
    let certs_d = tempfile::tempdir().unwrap();
    std::fs::create_dir(certs_d.path().join("docker.io")).unwrap();
    let dead = free_port();
    let hosts = format!(
        "server = 'http://127.0.0.1:{dead}'\n[host.'http://127.0.0.1:{dead}/x']\n[host.'http://127.0.0.1:{}']\n",
        mirror.port
    );
    std::fs::write(certs_d.path().join("docker.io/hosts.toml"), hosts).unwrap();
    let registries = Registries::patient(vec![certs_d.path().to_owned()], None, impatient());
    let home = Home::new();
    let image = home
        .store
        .pull(&registries, "app:v1", None, &amd64())
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(image.tags, ["docker.io/library/app:v1"]);
    let error = home.store.pull(&registries, "absent", None, &amd64()).await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::Unavailable, "the registry itself has the last word");
}

#[tokio::test]
async fn many_at_once_share_the_work() {
    let registry = DockerRegistry::start("", "");
    let layout = tempfile::tempdir().unwrap();
    two_platforms(layout.path());
    let name = registry.name("app:v1");
    skopeo(&[
        "copy",
        "--all",
        "--dest-tls-verify=false",
        &format!("oci:{}", layout.path().display()),
        &format!("docker://{name}"),
    ]);
    let home = Home::new();
    // Another store object on the same directory stands for another process.
    let second = image::Store::open(home.store.root()).unwrap();
    let registries = registries();
    let (amd64, arm64) = (amd64(), arm64());
    let pulls = (0..12).map(|number| {
        let store = if number % 3 == 0 { &second } else { &home.store };
        store.pull(&registries, &name, None, if number % 2 == 0 { &amd64 } else { &arm64 })
    });
    for outcome in futures_util::future::join_all(pulls).await {
        outcome.unwrap_or_else(|e| panic!("{}", chain(&e)));
    }
    assert_eq!(home.names("layers").len(), 5, "the base is one layer");
    assert_eq!(home.names("ingest"), Vec::<String>::new());
    assert_eq!(second.list().unwrap().len(), 2);
}
