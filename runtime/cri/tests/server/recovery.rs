//! `kill -9` of the server at any moment.

use proto_cri::*;
use tonic::Status;

use crate::node::{Client, Node, expect_log, pod, shell};

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_server() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    let before = node.rested(&mut client).await;
    let id = client.run_pod(pod(&node, "stays")).await.unwrap();
    let count = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done";
    let app = client.create(&id, shell("app", count)).await.unwrap();
    let brief =
        client.create(&id, shell("brief", "while [ ! -e /end ]; do sleep 0.02; done; exit 5")).await.unwrap();
    let idle = client.create(&id, shell("idle", "echo later")).await.unwrap();
    client.start(&app).await.unwrap();
    client.start(&brief).await.unwrap();
    let (pid, started) = (client.pid(&app).await, client.status(&app).await.unwrap().started_at);
    let brief_pid = client.pid(&brief).await;
    node.kill();
    let end = node.folder.join("data/snapshots").join(&brief).join("upper/end");
    // While the server is gone: the container sees a file and ends.
    node.machine.run(&["touch", &format!("/proc/{brief_pid}/root/end")]).unwrap();
    assert!(end.exists());
    expect_log(&node, "stays", "app", "line 20");
    node.start(None);
    let mut client = node.client().await;
    assert_eq!(client.pid(&app).await, pid, "untouched");
    let status = client.status(&app).await.unwrap();
    assert_eq!((status.state(), status.started_at), (ContainerState::ContainerRunning, started));
    let ended = client.wait_state(&brief, ContainerState::ContainerExited).await;
    assert_eq!(ended.exit_code, 5);
    assert_eq!(client.status(&idle).await.unwrap().state(), ContainerState::ContainerCreated);
    client.start(&idle).await.unwrap();
    expect_log(&node, "stays", "idle", "later");
    assert_eq!(client.exec(&app, &["true"], 5).await.unwrap().exit_code, 0);
    client.stop(&app, 0).await.unwrap();
    assert_eq!(client.status(&app).await.unwrap().exit_code, 137);
    client.remove_all().await;
    node.expect_nothing_new(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_monitor_takes_its_containers_with_it() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    let before = node.rested(&mut client).await;
    let id = client.run_pod(pod(&node, "orphan")).await.unwrap();
    let app = client.create(&id, shell("app", "while :; do sleep 1; done")).await.unwrap();
    client.start(&app).await.unwrap();
    let state = std::fs::read(node.folder.join("run/pods").join(&id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    node.machine.run(&["kill", "-9", &state["pid"].to_string()]).unwrap();
    let status = client.wait_state(&app, ContainerState::ContainerExited).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    assert_eq!(client.pod_status(&id).await.unwrap().state(), PodSandboxState::SandboxNotready);
    client.remove_all().await;
    node.expect_nothing_new(&before);
}

/// A whole life; stops at the first failure, which is the server's death.
async fn life(client: &mut Client, node: &Node, name: &str) -> Result<(), Status> {
    // Without a cgroup of the client's the server makes one, and must remove it.
    let id = client.run_pod(PodSandboxConfig { linux: None, ..pod(node, name) }).await?;
    let app = client.create(&id, shell("app", "trap 'exit 0' TERM; while :; do sleep 0.05; done")).await?;
    client.start(&app).await?;
    client.stop(&app, 5).await?;
    client.remove(&app).await?;
    client.stop_pod(&id).await?;
    client.remove_pod(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_is_survived() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    let before = node.rested(&mut client).await;
    for (number, point) in cri::CRASH_POINTS.iter().enumerate() {
        node.kill();
        node.start(Some(point));
        let mut client = node.client().await;
        let died = life(&mut client, &node, &format!("p{number}")).await;
        assert!(died.is_err(), "{point} was not passed");
        node.expect_death();
        node.start(None);
        let mut client = node.client().await;
        // Of what is there after the recovery nothing is half-made: it can be used, and removed.
        for pod in client
            .runtime
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await
            .unwrap()
            .into_inner()
            .items
        {
            if pod.state() == PodSandboxState::SandboxReady {
                let id = client.create(&pod.id, shell("more", "exit 4")).await.unwrap();
                client.start(&id).await.unwrap();
                assert_eq!(
                    client.wait_state(&id, ContainerState::ContainerExited).await.exit_code,
                    4,
                    "{point}"
                );
            }
        }
        client.remove_all().await;
        node.expect_nothing_new(&before);
    }
}

/// What a reboot leaves: the data directory, an empty run directory, no process.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_everything_has_ended() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    let before = node.rested(&mut client).await;
    let id = client.run_pod(pod(&node, "boot")).await.unwrap();
    let app = client.create(&id, shell("app", "while :; do sleep 1; done")).await.unwrap();
    client.start(&app).await.unwrap();
    let dir = node.folder.join("run/pods").join(&id);
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("state.json")).unwrap()).unwrap();
    let pids = [client.pid(&app).await, state["pause_pid"].as_u64().unwrap(), state["pid"].as_u64().unwrap()];
    node.kill();
    for pid in pids {
        let _ = node.machine.run(&["kill", "-9", &pid.to_string()]);
    }
    node.machine.run(&["umount", dir.join("shm").to_str().unwrap()]).unwrap();
    std::fs::remove_dir_all(node.folder.join("run")).unwrap();
    node.start(None);
    let mut client = node.client().await;
    assert_eq!(client.pod_status(&id).await.unwrap().state(), PodSandboxState::SandboxNotready);
    let status = client.status(&app).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 255));
    assert_eq!(status.reason, "Unknown");
    client.remove_all().await;
    node.expect_nothing_new(&before);
}
