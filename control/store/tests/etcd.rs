//! What only etcd can do to a store: be shared, be away, be compacted, be set back, be full.

mod suite;

use std::{fs, path::Path, time::Duration};

use proto_etcd::{
    CompactionRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, kv_client::KvClient,
    request_op::Request,
};
use store::{CommitError, Config, Etcd, Op, Place, Range, Store, Tls, Txn, Write};
use suite::{
    etcd::{Line, Server, open},
    put,
};

const LONG: Duration = Duration::from_secs(60);

async fn delete(store: &Store, key: &str) -> i64 {
    let held = store.get(key).expect("is there").mod_revision;
    store.commit(Txn::one(Write::delete(key, held))).await.expect("nothing stands against it")
}

#[tokio::test]
async fn several_stores_share_one_etcd() {
    let server = Server::start(&[]).await;
    let (one, two) = (server.store().await, server.store().await);
    let mut watch = two.watch("/registry/shared/", two.revision()).expect("kept");
    let first = put(&one, "/registry/shared/a", "1").await;
    assert!(two.current().await.expect("etcd answers") >= first);
    assert_eq!(two.get("/registry/shared/a").expect("current() brought it").mod_revision, first);
    let batch = watch.next().await.expect("open").expect("kept");
    assert_eq!((batch.events.len(), batch.events[0].revision), (1, first));
    let both =
        [&one, &two].map(|store| store.commit(Txn::one(Write::update("/registry/shared/a", "2", first))));
    let [left, right] = both;
    let (left, right) = tokio::join!(left, right);
    assert!(left.is_ok() != right.is_ok(), "one of two updates of one version wins: {left:?} {right:?}");
    // A key of somebody else moves the revision, and is not ours.
    let mut foreign = KvClient::connect(server.endpoint()).await.expect("etcd answers");
    let key = PutRequest { key: "/elsewhere/x".into(), value: "1".into(), lease: 0 };
    let request = TxnRequest {
        success: vec![RequestOp { request: Some(Request::RequestPut(key)) }],
        ..TxnRequest::default()
    };
    let revision =
        foreign.txn(request).await.expect("etcd answers").into_inner().header.expect("a header").revision;
    assert!(one.wait_for(revision, LONG).await && one.current().await.expect("etcd answers") == revision);
    assert!(one.get("/elsewhere/x").is_none());
    assert_eq!(one.range("", Range::default()).expect("now").entries.len(), 1);
    let late = server.store().await;
    assert_eq!(suite::dump(&late), suite::dump(&one));
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_when_etcd_was_away() {
    let mut server = Server::start(&[]).await;
    let store = server.store().await;
    let start = put(&store, "/registry/away/a", "1").await;
    let mut watch = store.watch("/registry/away/", start).expect("kept");
    server.kill();
    let write = Txn::one(Write::create("/registry/away/b", "1"));
    assert!(matches!(store.commit(write).await, Err(CommitError::Unavailable { .. })));
    assert!(store.current().await.is_err());
    assert_eq!(&store.get("/registry/away/a").expect("reading goes on").value[..], b"1");
    server.again().await;
    let other = server.store().await;
    let second = put(&other, "/registry/away/c", "1").await;
    let batch =
        tokio::time::timeout(LONG, watch.next()).await.expect("it comes back").expect("open").expect("kept");
    assert_eq!(batch.events.last().map(|event| event.revision), Some(second));
    put(&store, "/registry/away/d", "1").await;
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn a_mirror_that_missed_too_much_is_filled_anew() {
    let server = Server::start(&[]).await;
    let line = Line::to(server.port).await;
    let (far, near) = (open(vec![line.endpoint()], None).await, server.store().await);
    for name in ["gone", "kept", "changed"] {
        put(&near, &format!("/registry/missed/{name}"), "1").await;
    }
    let start = far.current().await.expect("etcd answers");
    let mut watch = far.watch("/registry/missed/", start).expect("kept");
    line.cut();
    delete(&near, "/registry/missed/gone").await;
    put(&near, "/registry/missed/changed", "2").await;
    let last = put(&near, "/registry/missed/new", "1").await;
    let mut direct = KvClient::connect(server.endpoint()).await.expect("etcd answers");
    direct.compact(CompactionRequest { revision: last, physical: true }).await.expect("etcd compacts");
    line.mend();
    let told = tokio::time::timeout(LONG, watch.next()).await.expect("it is told").expect("open");
    assert!(told.is_err_and(|gone| gone.oldest >= last), "what was missed is not known: 410");
    assert!(far.wait_for(last, LONG).await);
    assert_eq!(suite::dump(&far), suite::dump(&near));
    assert!(far.get("/registry/missed/gone").is_none());
    let mut watch = far.watch("/registry/missed/", last).expect("from here on");
    put(&near, "/registry/missed/next", "1").await;
    let next =
        tokio::time::timeout(LONG, watch.next()).await.expect("it goes on").expect("open").expect("kept");
    assert_eq!(next.events[0].key(), "/registry/missed/next");
}

#[tokio::test]
async fn an_etcd_that_was_set_back_is_read_anew() {
    let mut server = Server::start(&[]).await;
    let store = server.store().await;
    put(&store, "/registry/back/a", "old").await;
    server.kill();
    copy(&server.folder.path().join("data"), &server.folder.path().join("saved"));
    server.again().await;
    let lost = loop {
        let write = Write {
            key: "/registry/back/a".into(),
            expect: store::Expect::Any,
            op: Op::Put { value: "new".into(), ttl: None },
        };
        if let Ok(revision) = store.commit(Txn::one(write)).await {
            break revision;
        }
    };
    let event =
        |name: &str| Txn::one(Write::create(format!("/registry/back/{name}"), "1").expiring(LONG * 60));
    let lost = store.commit(event("b")).await.expect("it is new").max(lost);
    let mut watch = store.watch("/registry/back/", lost).expect("kept");
    server.kill();
    fs::remove_dir_all(server.folder.path().join("data")).expect("removes");
    copy(&server.folder.path().join("saved"), &server.folder.path().join("data"));
    server.again().await;
    let told = tokio::time::timeout(LONG, watch.next()).await.expect("it is told").expect("open");
    assert!(told.is_err());
    assert_eq!(&store.get("/registry/back/a").expect("is there").value[..], b"old");
    assert!(store.revision() < lost);
    store
        .commit(event("c"))
        .await
        .expect("the lease is gone with what etcd has lost, another one is asked for");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("reads") {
        let entry = entry.expect("reads");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)
        } else {
            let _ = fs::copy(entry.path(), to).expect("copies");
        }
    }
}

#[tokio::test]
async fn a_dead_member_is_left_for_the_next() {
    let server = Server::start(&[]).await;
    let line = Line::to(server.port).await;
    let dead = Line::to(1).await;
    let store = open(vec![dead.endpoint(), line.endpoint(), server.endpoint()], None).await;
    put(&store, "/registry/members/a", "1").await;
    line.cut();
    drop(line);
    let revision = loop {
        let op = Op::Put { value: "2".into(), ttl: None };
        let write = Write { key: "/registry/members/a".into(), expect: store::Expect::Any, op };
        if let Ok(revision) = store.commit(Txn::one(write)).await {
            break revision;
        }
    };
    assert_eq!(store.get("/registry/members/a").expect("is there").mod_revision, revision);
}

#[tokio::test]
async fn servers_take_turns_to_compact() {
    let server = Server::start(&[]).await;
    let mut config = Config::new(Place::Etcd(Etcd { endpoints: vec![server.endpoint()], tls: None }));
    let first = put(&server.store().await, "/registry/compact/a", "1").await;
    config.history.age = Duration::from_secs(1);
    let one: Store = Store::open(config.clone()).await.expect("etcd answers");
    let two: Store = Store::open(config).await.expect("etcd answers");
    let mut direct = KvClient::connect(server.endpoint()).await.expect("etcd answers");
    let then = RangeRequest { key: "/registry/compact/a".into(), revision: first, ..RangeRequest::default() };
    let compacted = async {
        while direct.range(then.clone()).await.is_ok() {
            put(&one, "/registry/compact/a", "2").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LONG, compacted).await.expect("etcd is compacted");
    assert_eq!(suite::dump(&one).len(), 1, "the key that counts the rounds is nobody's object");
    assert!(two.current().await.is_ok() && two.trouble().is_none());
    assert_eq!(suite::dump(&one), suite::dump(&two));
}

#[tokio::test]
async fn keys_that_expire_together_share_a_lease() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    let hour = Duration::from_secs(3600);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        let event = Write::create(format!("/registry/events/{number}"), "1").expiring(hour);
        all.spawn(async move { store.commit(Txn::one(event)).await });
    }
    assert!(all.join_all().await.iter().all(Result::is_ok));
    let mut direct = KvClient::connect(server.endpoint()).await.expect("etcd answers");
    let range =
        RangeRequest { key: "/registry/".into(), range_end: "/registry0".into(), ..RangeRequest::default() };
    let held = direct.range(range).await.expect("etcd answers").into_inner().kvs;
    assert!(held.len() == 20 && held[0].lease != 0 && held.iter().all(|kv| kv.lease == held[0].lease));
}

#[tokio::test]
async fn a_cluster_may_lose_any_one_member() {
    let mut members = Server::cluster(3, &[]).await;
    let store = open(members.iter().map(Server::endpoint).collect(), None).await;
    let mut watch = store.watch("/registry/cluster/", store.revision()).expect("kept");
    let mut written = Vec::new();
    for (lost, member) in members.iter_mut().enumerate() {
        member.kill();
        for number in 0..5 {
            let key = format!("/registry/cluster/{lost}-{number}");
            // An answer that did not come says nothing: the next attempt tells whether the write was made.
            let revision = loop {
                match store.commit(Txn::one(Write::create(&*key, "1"))).await {
                    Ok(revision) => break revision,
                    Err(CommitError::Conflict { current: Some(current), .. }) => break current.mod_revision,
                    Err(CommitError::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            written.push((revision, key));
        }
        member.again().await;
    }
    let mut seen = Vec::new();
    while seen.len() < written.len() {
        let next =
            tokio::time::timeout(LONG, watch.next()).await.expect("it is seen").expect("open").expect("kept");
        seen.extend(next.events.iter().map(|event| (event.revision, event.key().to_owned())));
    }
    assert_eq!(seen, written);
}

#[tokio::test]
async fn a_full_etcd_is_told_as_such() {
    let server = Server::start(&["--quota-backend-bytes", "2000000"]).await;
    let store = server.store().await;
    let big = vec![b'x'; 400_000];
    let mut refused = None;
    for number in 0..40 {
        let write = Write::create(format!("/registry/full/{number}"), big.clone());
        if let Err(error) = store.commit(Txn::one(write)).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(CommitError::Full { .. })), "{refused:?}");
    assert!(store.get("/registry/full/0").is_some(), "reading goes on");
    let huge = Write::create("/registry/full/huge", vec![b'x'; 3 << 20]);
    let refused = store.commit(Txn::one(huge)).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn tls_needs_the_right_authority_and_a_certificate() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    let authority = certificates(folder.path());
    let option = |name: &str, file: &str| format!("--{name}={}", path(file).display());
    let options = [
        option("cert-file", "server.pem"),
        option("key-file", "server.key"),
        option("trusted-ca-file", "ca.pem"),
        "--client-cert-auth".to_owned(),
    ];
    let server = Server::start(&options.each_ref().map(String::as_str)).await;
    let endpoint = format!("https://127.0.0.1:{}", server.port);
    let tls = Tls { ca: path("ca.pem"), certificate: path("client.pem"), key: path("client.key") };
    let store = open(vec![endpoint.clone()], Some(tls.clone())).await;
    put(&store, "/registry/tls/a", "1").await;
    fs::write(path("other.pem"), authority).expect("writes");
    let wrong = Tls { ca: path("other.pem"), ..tls };
    let place = Place::Etcd(Etcd { endpoints: vec![endpoint], tls: Some(wrong) });
    let refused = Store::<()>::open(Config::new(place)).await.err().expect("another authority").to_string();
    assert!(refused.contains("certificate"), "{refused}");
}

/// Writes the files of one authority, and answers another's certificate.
fn certificates(folder: &Path) -> String {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs")
    };
    let ca = authority();
    fs::write(folder.join("ca.pem"), ca.pem()).expect("writes");
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &ca).expect("signs");
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("writes");
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("writes");
    }
    authority().pem()
}
