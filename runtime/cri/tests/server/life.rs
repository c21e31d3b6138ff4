//! Whole lives through the API.

use proto_cri::*;

use crate::node::{Node, expect_log, pod, shell};

const FOREVER: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_from_start_to_end() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    let image = client.pull().await.unwrap();
    let before = node.rested(&mut client).await;
    let id = client.run_pod(pod(&node, "web")).await.unwrap();
    let status = client.pod_status(&id).await.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert!(status.network.unwrap().ip.starts_with("10.99.0."));
    assert_eq!(client.run_pod(pod(&node, "web")).await.unwrap(), id, "a repeated call gets the same sandbox");
    let app = client.create(&id, shell("app", FOREVER)).await.unwrap();
    assert_eq!(client.create(&id, shell("app", FOREVER)).await.unwrap(), app, "and the same container");
    let other = client.create(&id, shell("app", "exit 0")).await.unwrap_err();
    assert_eq!(other.code(), tonic::Code::AlreadyExists, "{other}");
    let created = client.status(&app).await.unwrap();
    assert_eq!((created.state(), created.image_id.clone()), (ContainerState::ContainerCreated, image));
    client.start(&app).await.unwrap();
    assert!(client.start(&app).await.unwrap_err().message().contains("running already"));
    let running = client.status(&app).await.unwrap();
    assert_eq!(running.state(), ContainerState::ContainerRunning);
    assert!(running.started_at >= running.created_at && running.finished_at == 0);
    expect_log(&node, "web", "app", " stdout F ready");
    let hello =
        client.exec(&app, &["sh", "-c", "echo out; echo err >&2; hostname; exit 3"], 10).await.unwrap();
    assert_eq!(
        (hello.exit_code, hello.stdout.as_slice(), hello.stderr.as_slice()),
        (3, &b"out\nweb\n"[..], &b"err\n"[..])
    );
    let late = client.exec(&app, &["sleep", "60"], 1).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late}");
    client.stop(&app, 10).await.unwrap();
    let stopped = client.status(&app).await.unwrap();
    assert_eq!((stopped.state(), stopped.exit_code), (ContainerState::ContainerExited, 7));
    assert_eq!((stopped.reason.as_str(), stopped.finished_at > 0), ("Error", true));
    client.stop(&app, 10).await.unwrap();
    client.remove(&app).await.unwrap();
    client.remove(&app).await.unwrap();
    assert_eq!(client.status(&app).await.unwrap_err().code(), tonic::Code::NotFound);
    for _ in 0..2 {
        client.stop_pod(&id).await.unwrap();
    }
    assert_eq!(client.pod_status(&id).await.unwrap().state(), PodSandboxState::SandboxNotready);
    for _ in 0..2 {
        client.remove_pod(&id).await.unwrap();
    }
    node.expect_nothing_new(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_reasons_and_failures() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    let before = node.rested(&mut client).await;
    let id = client.run_pod(pod(&node, "exits")).await.unwrap();
    for (script, code, reason) in
        [("exit 0", 0, "Completed"), ("exit 3", 3, "Error"), ("kill -9 $$; sleep 9", 137, "Error")]
    {
        let container = client.create(&id, shell(&format!("c{code}"), script)).await.unwrap();
        client.start(&container).await.unwrap();
        let status = client.wait_state(&container, ContainerState::ContainerExited).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{script}");
    }
    let mut missing = shell("missing", "");
    missing.command = vec!["/no/such/program".to_owned()];
    let container = client.create(&id, missing).await;
    if let Ok(container) = container {
        let error = client.start(&container).await.unwrap_err();
        assert!(error.message().contains("/no/such/program"), "{error}");
        let status = client.status(&container).await.unwrap();
        assert_eq!(
            (status.state(), status.exit_code, status.reason.as_str()),
            (ContainerState::ContainerExited, 128, "StartError")
        );
    }
    let mut unknown = shell("unknown", "");
    unknown.image = Some(ImageSpec { image: "docker.io/library/absent:1".into(), ..Default::default() });
    assert_eq!(client.create(&id, unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    let stubborn = client
        .create(&id, shell("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done"))
        .await
        .unwrap();
    client.start(&stubborn).await.unwrap();
    expect_log(&node, "exits", "stubborn", "up");
    let mut patient = client.clone();
    let waiting = stubborn.clone();
    let slow = tokio::spawn(async move { patient.stop(&waiting, 3600).await });
    client.stop(&stubborn, 0).await.unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!(client.status(&stubborn).await.unwrap().exit_code, 137);
    client.stop_pod(&id).await.unwrap();
    client.remove_pod(&id).await.unwrap();
    node.expect_nothing_new(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_stats_and_events() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    client.pull().await.unwrap();
    let mut events = client.runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let status = client.runtime.status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    for condition in status.status.unwrap().conditions {
        assert!(condition.status, "{condition:?}");
    }
    let id = client.run_pod(pod(&node, "seen")).await.unwrap();
    let app = client.create(&id, shell("app", FOREVER)).await.unwrap();
    client.start(&app).await.unwrap();
    let stats =
        client.runtime.container_stats(ContainerStatsRequest { container_id: app.clone() }).await.unwrap();
    let stats = stats.into_inner().stats.unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().usage_bytes.unwrap().value > 0);
    let stats = client
        .runtime
        .pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: id.clone() })
        .await
        .unwrap();
    let network = stats.into_inner().stats.unwrap().linux.unwrap().network.unwrap();
    assert_eq!(network.default_interface.unwrap().name, "eth0");
    let mut streamed =
        client.runtime.stream_containers(StreamContainersRequest::default()).await.unwrap().into_inner();
    assert_eq!(streamed.message().await.unwrap().unwrap().containers.len(), 1);
    client.remove_pod(&id).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 5 {
        let event = events.message().await.unwrap().unwrap();
        kinds.push((event.container_id == app, event.container_event_type()));
    }
    use ContainerEventType::*;
    assert_eq!(
        kinds,
        [
            (true, ContainerCreatedEvent),
            (true, ContainerStartedEvent),
            (true, ContainerStoppedEvent),
            (false, ContainerStoppedEvent),
            (true, ContainerDeletedEvent),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_returns_though_a_process_is_left_behind() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    client.pull().await.unwrap();
    let id = client.run_pod(pod(&node, "behind")).await.unwrap();
    let app = client.create(&id, shell("app", FOREVER)).await.unwrap();
    client.start(&app).await.unwrap();
    let left = client.exec(&app, &["sh", "-c", "sleep 1000 & echo started"], 60).await.unwrap();
    assert_eq!((left.exit_code, left.stdout.as_slice()), (0, &b"started\n"[..]));
    let mut clients: Vec<_> = (0..8).map(|_| client.clone()).collect();
    let execs = clients.iter_mut().map(|client| client.exec(&app, &["echo", "hi"], 30));
    for output in futures_util::future::join_all(execs).await {
        assert_eq!(output.unwrap().stdout, b"hi\n");
    }
    client.remove_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_joins_what_it_began() {
    let mut node = Node::new();
    node.start(None);
    let mut client = node.client().await;
    client.pull().await.unwrap();
    let (config, mut hasty) = (pod(&node, "hasty"), client.clone());
    let short = std::time::Duration::from_millis(5);
    let gave_up = tokio::time::timeout(short, hasty.run_pod(config.clone())).await;
    let mut clients: Vec<_> = (0..4).map(|_| client.clone()).collect();
    let calls = clients.iter_mut().map(|client| client.run_pod(config.clone()));
    let ids: Vec<_> = futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{gave_up:?} {ids:?}");
    let calls = clients.iter_mut().map(|client| client.create(&ids[0], shell("app", FOREVER)));
    let created: Vec<_> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(created.iter().all(|id| *id == created[0]), "{created:?}");
    let all =
        client.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
    assert_eq!(all.len(), 1);
    client.remove_all().await;
}
