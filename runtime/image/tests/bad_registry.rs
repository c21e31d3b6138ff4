//! Registries that stall, lie, break off, redirect, and ask for credentials in every way.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image::{Credentials, Image, PullError, PullErrorKind, Registries, StoreError};
use support::server::{Answer, Asked, Server, honest};
use support::*;

async fn pull(home: &Home, name: &str) -> Result<Image, Arc<PullError>> {
    home.store.pull(&registries(), name, None, &amd64()).await
}

fn two_layers() -> Content {
    let small = Layer::gzip(&tar_of(&[("small", b"x")]));
    Content::single(&[small, Layer::gzip(&tar_of(&[("large", &noise(1_000_000, 3))]))])
}

/// Answers as `fault` says for the n-th request of a blob of more than 1000 bytes, else honestly.
async fn faulty(content: Content, fault: impl Fn(usize, Answer) -> Answer + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |asked| {
        let answer = honest(&content, asked);
        let large = asked.is_blob() && answer.body.len() > 1000;
        if large { fault(count.fetch_add(1, Ordering::Relaxed), answer) } else { answer }
    })
    .await
}

/// The pull fails with this text, and leaves nothing.
async fn assert_fails(server: &Server, kind: PullErrorKind, text: &str) {
    let home = Home::new();
    let error = pull(&home, &server.name("app")).await.expect_err("a fault");
    assert!(chain(&error).contains(text), "{}", chain(&error));
    assert!(chain(&error).contains(&format!("127.0.0.1:{}", server.port)), "{}", chain(&error));
    assert_eq!(error.kind(), kind, "{error:?}");
    // The thread that unpacks another layer keeps the directory for as long as it writes into it.
    let waste = async {
        while !home.names("ingest").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waste).await.expect("nothing stays behind");
    assert_eq!(home.store.list().expect("an index"), []);
    home.assert_empty();
}

#[tokio::test]
async fn broken_connections_resume() {
    let content = two_layers();
    let server = faulty(content, |_, answer| match answer.body.len() {
        0..300_000 => answer,
        _ => Answer { cut: Some(250_000), ..answer },
    })
    .await;
    let home = Home::new();
    let image = pull(&home, &server.name("app")).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(read(&home.store, image.id.as_str(), "large"), Some(noise(1_000_000, 3)));
    let offsets: Vec<_> =
        server.asked().iter().filter(|a| a.is_blob()).map(Asked::offset).filter(|o| *o > 0).collect();
    assert_eq!(offsets[..3], [250_000, 500_000, 750_000]);
}

#[tokio::test]
async fn a_registry_without_ranges_starts_over() {
    let content = two_layers();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let plain = Asked { headers: Vec::new(), ..asked.clone() };
        let answer = honest(&content, &plain);
        let first = asked.is_blob() && answer.body.len() > 1000 && count.fetch_add(1, Ordering::Relaxed) == 0;
        if first { Answer { cut: Some(400_000), ..answer } } else { answer }
    })
    .await;
    let home = Home::new();
    let image = pull(&home, &server.name("app")).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(read(&home.store, image.id.as_str(), "large"), Some(noise(1_000_000, 3)));
}

#[tokio::test]
async fn a_stalled_transfer_goes_on_or_says_so() {
    let server = faulty(two_layers(), |number, answer| match number {
        0 => Answer { stall: Some(200_000), ..answer },
        _ => answer,
    })
    .await;
    let home = Home::new();
    pull(&home, &server.name("app")).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    let server = faulty(two_layers(), |_, answer| Answer { stall: Some(100), ..answer }).await;
    assert_fails(&server, PullErrorKind::Unavailable, "no data for").await;
    let server = faulty(two_layers(), |_, answer| Answer { stall: Some(0), ..answer }).await;
    assert_fails(&server, PullErrorKind::Unavailable, "no data for").await;
}

#[tokio::test]
async fn lies_about_length_are_named() {
    let shorter = |_: usize, answer: Answer| Answer { length: Some(1234), ..answer };
    assert_fails(&faulty(two_layers(), shorter).await, PullErrorKind::Corrupt, "has 1234 bytes instead of")
        .await;
    let longer = |_: usize, mut answer: Answer| {
        answer.body.extend([0; 4096]);
        Answer { open_ended: true, ..answer }
    };
    assert_fails(&faulty(two_layers(), longer).await, PullErrorKind::Corrupt, "bytes instead of").await;
    let ends_early = |_: usize, mut answer: Answer| {
        answer.body.truncate(500);
        Answer { open_ended: true, ..answer }
    };
    assert_fails(
        &faulty(two_layers(), ends_early).await,
        PullErrorKind::Unavailable,
        "connection ended after",
    )
    .await;
}

#[tokio::test]
async fn damaged_content_is_named() {
    for at in [0, 5, 1000, 900_000] {
        let flip = move |_: usize, mut answer: Answer| {
            answer.body[at] ^= 0x40;
            answer
        };
        assert_fails(&faulty(two_layers(), flip).await, PullErrorKind::Corrupt, "is damaged: its digest is")
            .await;
    }
    // A layer whose blob is right, but not what the configuration says.
    let mut layer = Layer::gzip(&tar_of(&[("a", b"b")]));
    layer.diff_id = image::Digest::of(b"other");
    let content = Content::single(&[layer]);
    let server = Server::start(move |asked| honest(&content, asked)).await;
    assert_fails(&server, PullErrorKind::Corrupt, "the image configuration says").await;
    // A manifest that is not what its digest says.
    let mut content = two_layers();
    content.manifests.get_mut("latest").unwrap().1.push(b' ');
    let other = image::Digest::of(b"").to_string();
    let server =
        Server::start(move |asked| honest(&content, asked).with("docker-content-digest", &other)).await;
    assert_fails(&server, PullErrorKind::Corrupt, "manifest app:latest is damaged").await;
}

#[tokio::test]
async fn refusals_are_repeated_where_it_may_help() {
    let content = two_layers();
    let counts: Mutex<HashMap<String, u32>> = Mutex::default();
    let server = Server::start(move |asked| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(asked.path.clone()).or_default();
        *count += 1;
        match count {
            1 => Answer::status(503),
            2 => Answer::status(429).with("retry-after", "0"),
            _ => honest(&content, asked),
        }
    })
    .await;
    pull(&Home::new(), &server.name("app")).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    let server = Server::start(|_| Answer { body: b"down\n for now".to_vec(), ..Answer::status(503) }).await;
    assert_fails(&server, PullErrorKind::Unavailable, "status 503: down for now").await;
    let server = Server::start(|_| Answer::status(418)).await;
    assert_fails(&server, PullErrorKind::Unavailable, "status 418").await;
    assert_eq!(server.asked().len(), 1);
    let content = two_layers();
    let server = Server::start(move |asked| honest(&content, asked)).await;
    let error = pull(&Home::new(), &server.name("app:absent")).await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::NotFound);
    assert!(chain(&error).ends_with("not found: MANIFEST_UNKNOWN manifest unknown"), "{}", chain(&error));
    let server = Server::start(|_| Answer { body: vec![b' '; 5 << 20], ..Answer::status(200) }).await;
    assert_fails(&server, PullErrorKind::Corrupt, "larger than").await;
}

#[tokio::test]
async fn redirects_keep_secrets() {
    let content = Arc::new(two_layers());
    let own = content.clone();
    let storage = Server::start(move |asked| honest(&own, asked)).await;
    let port = storage.port;
    let server = Server::start(move |asked| match (asked.header("authorization"), asked.is_blob()) {
        (None, _) => Answer::status(401).with("www-authenticate", "Basic realm=x"),
        (_, true) => {
            Answer::status(307).with("location", &format!("http://127.0.0.1:{port}{}?signed=1", asked.path))
        }
        _ => honest(&content, asked),
    })
    .await;
    let credentials = Credentials::Basic { username: "user".to_owned(), password: "pass".to_owned() };
    let home = Home::new();
    let pulled = home.store.pull(&registries(), &server.name("app"), Some(credentials), &amd64()).await;
    pulled.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert!(!storage.asked().is_empty());
    for asked in storage.asked() {
        assert_eq!((asked.header("authorization"), asked.query.as_str()), (None, "signed=1"));
    }
    let server = Server::start(|asked| Answer::status(302).with("location", &asked.path)).await;
    assert_fails(&server, PullErrorKind::Unavailable, "not followed: too many").await;
    let server = Server::start(|_| Answer::status(302)).await;
    assert_fails(&server, PullErrorKind::Unavailable, "not followed: it is no URL").await;
}

#[tokio::test]
async fn tokens_are_fetched_used_and_renewed() {
    let content = two_layers();
    let issued = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if asked.path == "/token" {
            let number = issued.fetch_add(1, Ordering::Relaxed) + 1;
            let body = format!(r#"{{"token":"t{number}","expires_in":60}}"#).into_bytes();
            return Answer { body, ..Answer::status(200) };
        }
        // The first token serves for the manifest only.
        let wanted = if asked.is_blob() { "Bearer t2" } else { "Bearer t1" };
        if asked.header("authorization").is_some_and(|own| own == wanted) {
            return honest(&content, asked);
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap_or_default());
        let challenge = format!(r#"Bearer realm="{realm}",service="s",scope="repository:app:pull""#);
        Answer::status(401).with("www-authenticate", &challenge)
    })
    .await;
    let credentials = Credentials::Basic { username: "user".to_owned(), password: "pass".to_owned() };
    let home = Home::new();
    let pulled = home.store.pull(&registries(), &server.name("app"), Some(credentials), &amd64()).await;
    pulled.unwrap_or_else(|e| panic!("{}", chain(&e)));
    let tokens: Vec<_> = server.asked().into_iter().filter(|asked| asked.path == "/token").collect();
    assert!(tokens.len() >= 2);
    assert_eq!(tokens[0].query, "service=s&scope=repository%3Aapp%3Apull");
    assert_eq!(tokens[0].header("authorization"), Some("Basic dXNlcjpwYXNz"));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let content = two_layers();
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.header("authorization")) {
        ("/token", _) if asked.body.contains("refresh_token=r%26t") && asked.body.contains("grant_type=") => {
            Answer { body: br#"{"access_token":"good"}"#.to_vec(), ..Answer::status(200) }
        }
        ("/token", _) => Answer::status(401),
        (_, Some("Bearer good")) => honest(&content, asked),
        _ => {
            let realm = format!("http://{}/token", asked.header("host").unwrap_or_default());
            Answer::status(401).with("www-authenticate", &format!(r#"Bearer realm="{realm}""#))
        }
    })
    .await;
    let home = Home::new();
    let pull =
        async |credentials| home.store.pull(&registries(), &server.name("app"), credentials, &amd64()).await;
    pull(Some(Credentials::IdentityToken("r&t".to_owned())))
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    let error = pull(None).await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::Unauthorized, "{}", chain(&error));
    pull(Some(Credentials::RegistryToken("good".to_owned())))
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

#[tokio::test]
async fn a_mirror_gets_no_credentials_but_the_registrys_name() {
    let content = Arc::new(two_layers());
    let own = content.clone();
    let registry = Server::start(move |asked| match asked.header("authorization") {
        None => Answer::status(401).with("www-authenticate", "Basic realm=x"),
        Some(_) => honest(&own, asked),
    })
    .await;
    let mirror = Server::start(|_| Answer::status(401).with("www-authenticate", "Basic realm=x")).await;
    let certs_d = tempfile::tempdir().unwrap();
    std::fs::create_dir(certs_d.path().join("r.example")).unwrap();
    let hosts = format!(
        "server = 'http://127.0.0.1:{}'\n[host.'http://127.0.0.1:{}']\nheader.x-key = 'k'\n",
        registry.port, mirror.port
    );
    std::fs::write(certs_d.path().join("r.example/hosts.toml"), hosts).unwrap();
    let registries = Registries::patient(vec![certs_d.path().to_owned()], None, impatient());
    let credentials = Credentials::Basic { username: "user".to_owned(), password: "pass".to_owned() };
    let home = Home::new();
    let pulled = home.store.pull(&registries, "r.example/app", Some(credentials), &amd64()).await;
    pulled.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert!(!mirror.asked().is_empty());
    for asked in mirror.asked() {
        assert_eq!((asked.header("authorization"), asked.header("x-key")), (None, Some("k")));
        assert_eq!(asked.query, "ns=r.example");
    }
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let server = faulty(two_layers(), |_, answer| Answer { stall: Some(300_000), ..answer }).await;
    let home = Home::new();
    let mut progress = home.store.progress();
    let registries = registries();
    let (name, platform) = (server.name("app"), amd64());
    let pull = home.store.pull(&registries, &name, None, &platform);
    let halfway = async { while progress.recv().await.unwrap().done < 256 << 10 {} };
    tokio::select! { _ = pull => panic!("it stalls"), () = halfway => {} }
    while !home.names("ingest").is_empty() {
        tokio::task::yield_now().await;
    }
    home.assert_empty();
}

#[tokio::test]
async fn another_process_leaves_a_running_pull_alone() {
    let server = faulty(two_layers(), |_, answer| Answer { stall: Some(300_000), ..answer }).await;
    let home = Home::new();
    let (registries, name, platform) = (registries(), server.name("app"), amd64());
    let mut progress = home.store.progress();
    let pull = home.store.pull(&registries, &name, None, &platform);
    let first = async { while progress.recv().await.unwrap().phase != image::Phase::Done {} };
    tokio::select! { _ = pull => panic!("it stalls"), () = first => {
        // It collects what nobody uses: not the layer that is here already, nor the one under way.
        image::Store::open(home.store.root()).unwrap();
        assert_eq!((home.names("layers").len(), home.names("ingest").len()), (1, 1));
    } }
    while !home.names("ingest").is_empty() {
        tokio::task::yield_now().await;
    }
    home.assert_empty();
}

#[tokio::test]
async fn callers_of_the_same_pull_share_it() {
    let content = two_layers();
    let server = Server::start(move |asked| honest(&content, asked)).await;
    let home = Home::new();
    let (registries, name, platform) = (registries(), server.name("app"), amd64());
    let pulls = (0..8).map(|_| home.store.pull(&registries, &name, None, &platform));
    let outcomes = futures_util::future::join_all(pulls).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(server.asked().len(), 4, "manifest, configuration, two layers");
}

#[tokio::test]
async fn what_a_mirror_damaged_comes_from_the_registry() {
    let content = Arc::new(two_layers());
    let own = content.clone();
    let registry = Server::start(move |asked| honest(&own, asked)).await;
    let mirror = Server::start(move |asked| {
        let mut answer = honest(&content, asked);
        if asked.is_blob() {
            answer.body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        answer
    })
    .await;
    let certs_d = tempfile::tempdir().unwrap();
    std::fs::create_dir(certs_d.path().join("r.example")).unwrap();
    let (registry, mirror) = (registry.port, mirror.port);
    let hosts = format!("server = 'http://127.0.0.1:{registry}'\n[host.'http://127.0.0.1:{mirror}']\n");
    std::fs::write(certs_d.path().join("r.example/hosts.toml"), hosts).unwrap();
    let registries = Registries::patient(vec![certs_d.path().to_owned()], None, impatient());
    let home = Home::new();
    let image = home.store.pull(&registries, "r.example/app", None, &amd64()).await;
    let id = image.unwrap_or_else(|e| panic!("{}", chain(&e))).id.to_string();
    assert_eq!(read(&home.store, &id, "large"), Some(noise(1_000_000, 3)));
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let mut content = two_layers();
    let digest = image::Digest::of(&content.manifests["latest"].1).to_string();
    content.tag("other", &digest);
    let server = Server::start(move |asked| honest(&content, asked)).await;
    let home = Home::new();
    for _ in 0..2 {
        pull(&home, &server.name("app")).await.unwrap();
    }
    assert_eq!(server.asked().len(), 5, "once more the manifest");
    let image = pull(&home, &server.name("app:other")).await.unwrap();
    assert_eq!((server.asked().len(), image.tags.len()), (6, 2));
    // A layer that somebody removed is named, and fetched again.
    let layers = home.store.layers(image.id.as_str()).unwrap();
    std::fs::remove_dir_all(layers[1].parent().unwrap()).unwrap();
    let error = home.snapshots.prepare("c", "app").unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    let error = home.snapshots.prepare("c", &server.name("app")).unwrap_err();
    assert!(error.to_string().contains("is missing: pull the image again"), "{error}");
    pull(&home, &server.name("app")).await.unwrap();
    assert_eq!((server.asked().len(), layers[1].join("small").exists()), (8, true));
}
