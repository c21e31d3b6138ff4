//! What is acknowledged stays: through kills, through backups, and with several servers on one etcd.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use client::{Client, Config, Query, WatchEvent};
use lab::{Control, Etcd};
use proto_kube::{Resource, object, resource};
use serde_json::{Value, json};

fn kind(plural: &str) -> &'static Resource {
    resource::find("", "v1", plural).unwrap()
}

fn client(control: &Control) -> Client {
    Client::new(&Config::load(&control.kubeconfig(), None).unwrap(), "test").unwrap()
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

async fn names(client: &Client, prefix: &str) -> BTreeSet<String> {
    let list = client.list(kind("configmaps"), "default", Query::default()).await.unwrap();
    let names = object::items(&list, &["items"]).map(|o| object::name(o).to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Off the runtime's threads, which must not block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_acknowledged_and_watches_resume() {
    let mut control = blocking(|| Control::start().unwrap()).await;
    for round in 0..3 {
        let before = client(&control);
        let list = before.list(kind("configmaps"), "default", Query::default()).await.unwrap();
        let from = object::text(&list, &["metadata", "resourceVersion"]).to_owned();
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let killed = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (client, acknowledged, killed) = (client(&control), acknowledged.clone(), killed.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        let name = format!("r{round}-{writer}-{number}");
                        let object = config_map(&name);
                        let query = Query::default();
                        match client.create(kind("configmaps"), "default", &object, query).await {
                            Ok(_) => acknowledged.lock().unwrap().insert(name),
                            Err(error) => {
                                assert!(killed.load(Ordering::SeqCst), "{error}");
                                return;
                            }
                        };
                    }
                })
            })
            .collect();
        while acknowledged.lock().unwrap().len() < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        killed.store(true, Ordering::SeqCst);
        control.kill().unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
        control = blocking(move || {
            control.restart().unwrap();
            control
        })
        .await;
        let after = client(&control);
        let found = names(&after, &format!("r{round}-")).await;
        let acknowledged = acknowledged.lock().unwrap().clone();
        let lost: Vec<&String> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        // The watch goes on from before the kill, with every object once.
        let query = Query::default().with("resourceVersion", &from);
        let mut watch = after.watch(kind("configmaps"), "default", query).await.unwrap();
        let mut seen = BTreeSet::new();
        while !found.is_subset(&seen) {
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Added(object) => assert!(seen.insert(object::name(&object).to_owned())),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_comes_back() {
    let control = blocking(|| Control::start().unwrap()).await;
    let client = client(&control);
    let make = async |name: &str| {
        client.create(kind("configmaps"), "default", &config_map(name), Query::default()).await.unwrap()
    };
    make("kept").await;
    let told = control.cleat(&["control", "backup", "saved"]).unwrap();
    assert!(told.contains("everything as of revision"), "{told}");
    make("later").await;
    client.delete(kind("configmaps"), "default", "kept", &Value::Null).await.unwrap();
    let mut watch = client.watch(kind("configmaps"), "default", Query::default()).await.unwrap();
    control.cleat(&["control", "restore", "saved"]).unwrap();
    assert!(names(&client, "").await.contains("kept"));
    assert!(!names(&client, "").await.contains("later"));
    // A watcher is told, not left with the world before.
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(object) if object::name(&object) == "kept" => drop(told.insert("kept")),
            WatchEvent::Deleted(object) if object::name(&object) == "later" => drop(told.insert("later")),
            _ => {}
        }
    }
    // Into an empty directory, without a server.
    let other = tempfile::tempdir().unwrap();
    let (saved, data) = (control.folder().join("saved"), other.path().join("data"));
    let data_dir = data.display().to_string();
    let printed = std::process::Command::new(lab::programs::debug().unwrap().join("cleat"))
        .args(["control", "restore"])
        .arg(&saved)
        .args(["--data-dir", &data_dir])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let restored = blocking(move || Control::start_in(other, &[]).unwrap()).await;
    let config = Config::load(&restored.kubeconfig(), None).unwrap();
    let client = Client::new(&config, "test").unwrap();
    assert!(names(&client, "").await.contains("kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_an_etcd() {
    let (etcd, one, two) = blocking(|| {
        let etcd = Etcd::start().unwrap();
        let store = format!("etcd://{}", etcd.address());
        let one = Control::start_with(&["--store", &store]).unwrap();
        // They are one cluster: the second has the first's authority.
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("data/control/pki");
        std::fs::create_dir_all(&pki).unwrap();
        for file in std::fs::read_dir(one.folder().join("data/control/pki")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), pki.join(file.file_name())).unwrap();
        }
        let two = Control::start_in(folder, &["--store", &store]).unwrap();
        (etcd, one, two)
    })
    .await;
    let (first, second) = (client(&one), client(&two));
    let mut watch = second
        .watch(kind("configmaps"), "default", Query::default().with("fieldSelector", "metadata.name=shared"))
        .await
        .unwrap();
    let made =
        first.create(kind("configmaps"), "default", &config_map("shared"), Query::default()).await.unwrap();
    // What one acknowledged the other has, at once, under the same revision.
    let read = second.get(kind("configmaps"), "default", "shared").await.unwrap();
    assert_eq!(read, made);
    let Some(WatchEvent::Added(seen)) = watch.next().await.unwrap() else { panic!("no event") };
    assert_eq!(seen, made);
    // A stale write of the other is refused.
    let changed = second.update(kind("configmaps"), None, &read, Query::default()).await.unwrap();
    let mut ours = made.clone();
    ours["data"] = json!({"k": "first"});
    let mut theirs = changed;
    theirs["data"] = json!({"k": "second"});
    second.update(kind("configmaps"), None, &theirs, Query::default()).await.unwrap();
    let refused = first.update(kind("configmaps"), None, &ours, Query::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(409));
    // No address of a service is given twice.
    let services = (0..20).map(|number| {
        let client = if number % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move {
            let object = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{number}")},
                "spec": {"ports": [{"port": 80}], "type": "NodePort"},
            });
            client.create(kind("services"), "default", &object, Query::default()).await.unwrap()
        })
    });
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for service in services.collect::<Vec<_>>() {
        let service = service.await.unwrap();
        assert!(addresses.insert(object::text(&service, &["spec", "clusterIP"]).to_owned()));
        assert!(ports.insert(service["spec"]["ports"][0]["nodePort"].as_i64().unwrap()));
    }
    drop(etcd);
}
